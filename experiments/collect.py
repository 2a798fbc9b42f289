"""Records demonstrations of a scripted expert, vectorised in MJX:

  python -m experiments.collect --env=detour --num_episodes=1000 --out=data/detour.npz

The file is in the format of `jaxpolicy.data.episodes`. Episodes that fail are left out and counted.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import build
from jaxpolicy import envs
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs import transforms
from jaxpolicy.io import flags as config_flags
from jaxpolicy.loops import rollout

FLAGS = flags.FLAGS


BATCH = 512  # episodes at once
MAX_BATCHES_PER_EPISODE = 4  # give up below a success rate of about 1 in 4


def collect(name: str, num_episodes: int, seed: int) -> tuple[episodes_lib.Episodes, int]:
    """Demonstrations, and how many episodes were tried for them.

    Raises:
      ValueError: a task without an expert, or an expert that hardly ever succeeds.
    """
    expert = build.choose('env', envs.EXPERTS, name)
    config = envs.ENVS[name].Config()
    env = transforms.time_limit(envs.ENVS[name].make(config), config.episode_steps)
    env, policy = transforms.vectorize(env), expert.make(config)

    @jax.jit
    def run(key):
        reset_key, rollout_key = jax.random.split(key)
        state = env.reset(jax.random.split(reset_key, BATCH))
        carry = policy.init(state.obs)
        _, _, batch, metrics = rollout.rollout(
            env, policy, state, carry, rollout_key, config.episode_steps
        )
        return batch.obs, batch.action, batch.termination | batch.truncation, metrics['success']

    obs, action, lengths, tried = [], [], [], 0
    limit = MAX_BATCHES_PER_EPISODE * -(-num_episodes // BATCH)
    for index in range(limit):
        o, a, done, success = jax.device_get(run(jax.random.fold_in(jax.random.key(seed), index)))
        end = done.argmax(0)  # [N], the step that ended the episode
        for i in np.flatnonzero(success[end, np.arange(BATCH)] > 0):
            obs.append(o[: end[i] + 1, i])
            action.append(a[: end[i] + 1, i])
            lengths.append(end[i] + 1)
        tried += BATCH
        if len(lengths) >= num_episodes:
            break
    if len(lengths) < num_episodes:
        raise ValueError(f'only {len(lengths)} of {tried} episodes of {name} succeeded')
    obs, action, lengths = (x[:num_episodes] for x in (obs, action, lengths))
    info = {
        'env': name,
        'source': f'jaxpolicy scripted expert, seed {seed}, successful episodes only',
        'control_hz': 20.0,
        'units': f'see jaxpolicy/envs/{name}.py',
    }
    stacked = (np.concatenate(obs), np.concatenate(action).astype(np.float32))
    return episodes_lib.Episodes(*stacked, np.cumsum(lengths), info), tried


def main(_):
    path = Path(FLAGS.out)
    try:
        episodes, tried = collect(FLAGS.env, FLAGS.num_episodes, FLAGS.seed)
    except ValueError as error:
        sys.exit(f'collect: error: {error}')
    path.parent.mkdir(parents=True, exist_ok=True)
    episodes_lib.save(path, episodes)
    count, steps = len(episodes.episode_ends), len(episodes.action)
    size = path.stat().st_size / 1e6
    print(f'{path}: {count} episodes, {steps} steps, {size:.1f} MB; {tried} episodes were tried')


if __name__ == '__main__':
    flags.DEFINE_string('env', 'detour', 'A task with an expert, see jaxpolicy.envs.EXPERTS.')
    flags.DEFINE_integer('num_episodes', 1000, 'Successful episodes.', lower_bound=1)
    flags.DEFINE_string('out', None, 'The .npz file to write.', required=True)
    flags.DEFINE_integer('seed', 0, 'Seed of starts, sides, way-points and noise.')
    config_flags.run_main(main)
