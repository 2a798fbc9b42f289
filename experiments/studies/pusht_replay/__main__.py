"""Replays human Push-T episodes in the simulator on the device and prints how far it strays:

  python -m experiments.studies.pusht_replay --data=PATH/pusht_cchi_v7_replay.zarr [--out=FILE]

The real simulator gives the recorded states back to 1e-5 px (its tests say so), so this is the
error of `jaxpolicy.envs.tasks.pusht`: at the `end` of each episode and over `all` steps, running
freely from the first state; and of `one step` from where agent and block were recorded.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.data.formats import pusht_zarr
from jaxpolicy.envs.adapters import pusht_gym
from jaxpolicy.envs.tasks import pusht
from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths

FLAGS = flags.FLAGS
QUANTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


def replay(episodes: episodes_lib.Episodes) -> dict[str, Any]:
    """The error table of demonstrations whose observations are states [n, 5].

    Returns:
      'episodes', 'steps', 'human_score' (mean over episodes of the largest coverage / 0.95, at
      most 1), 'human_coverage', and 'errors': {kind: {what: {quantile: number}}}, what being
      'agent' and 'block' (position, px) and 'angle' (rad).
    """
    state, action, valid = _padded(episodes)
    free, coverage = jax.device_get(_run(state, action, False))
    forced, _ = jax.device_get(_run(state, action, True))
    free, forced = (_distance(found[:, :-1], state[:, 1:]) for found in (free, forced))
    last = valid.sum(1) - 2
    kinds = {
        'end': free[np.arange(len(last)), last],
        'all': free[valid[:, 1:]],
        'one step': forced[valid[:, 1:]],
    }
    best = np.where(valid, coverage, 0.0).max(1)
    score = pusht_gym.coverage_metrics(best)['score']
    return {
        'episodes': len(last),
        'steps': int(valid.sum()),
        'human_score': float(score.mean()),
        'human_coverage': float(best.mean()),
        'errors': {kind: _quantiles(found) for kind, found in kinds.items()},
    }


def _padded(episodes: episodes_lib.Episodes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [E, T, 5], actions [E, T, 2] and which are real [E, T]; the rest repeats the last."""
    ends = np.asarray(episodes.episode_ends)
    starts = np.concatenate([[0], ends[:-1]])
    time = np.arange((ends - starts).max())
    rows = np.minimum(starts[:, None] + time, ends[:, None] - 1)
    return episodes.obs[rows], episodes.action[rows], time < (ends - starts)[:, None]


@jax.jit
def _run(state: jax.Array, action: jax.Array, forced: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The states [E, T, 5] after each action, and their coverages [E, T]."""
    config = pusht.Config(obs='state')
    env = pusht.make(config)

    def step(now, recorded_and_action):
        recorded, action = recorded_and_action
        world = now.sim.world
        agent = jnp.where(forced, recorded[:2], world.agent)
        pose = jnp.where(forced, pusht.pose_of(recorded), world.pose)
        now = now.replace(sim=now.sim.replace(world=world.replace(agent=agent, pose=pose)))
        now = env.step(now, action)
        return now, (now.obs, now.metrics['coverage'])

    def episode(state, action):
        first = pusht.restore(config, state[0], jax.random.key(0))
        return jax.lax.scan(step, first, (state, action))[1]

    return jax.vmap(episode)(jnp.asarray(state), jnp.asarray(action))


def _distance(found: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    """[..., 3]: of the agent and the block (px), and of the angle (rad)."""
    gap = found - recorded
    turn = np.abs((gap[..., 4] + np.pi) % (2 * np.pi) - np.pi)
    agent, block = np.hypot(*gap.T[:2]).T, np.hypot(*gap.T[2:4]).T
    return np.stack([agent, block, turn], axis=-1)


def _quantiles(found: np.ndarray) -> dict[str, dict[str, float]]:
    columns = zip(('agent', 'block', 'angle'), found.T, strict=True)
    return {name: {f'{q:g}': float(np.quantile(c, q)) for q in QUANTILES} for name, c in columns}


def main(_):
    table = replay(pusht_zarr.load(FLAGS.data, obs='state'))
    print(f'{table["episodes"]} episodes, {table["steps"]} steps')
    print(f'human score {table["human_score"]:.4f}, coverage {table["human_coverage"]:.4f}')
    print(f'{"quantile":17}' + ''.join(f'{q:>10g}' for q in QUANTILES))
    for kind, rows in table['errors'].items():
        for name, row in rows.items():
            print(f'{kind:10}{name:7}' + ''.join(f'{value:10.1e}' for value in row.values()))
    if FLAGS.out:
        paths.write_json(FLAGS.out, table)


if __name__ == '__main__':
    about = 'The folder pusht_cchi_v7_replay.zarr.'
    config_flags.define_input('data', None, about, folder=True, required=True)
    config_flags.define_output('out', None, 'Also write the table to this JSON file.')
    config_flags.run_main(main)
