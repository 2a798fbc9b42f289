"""What the shift study measures: trained policies in shifted tasks, far from demonstrations."""

import copy
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from experiments.studies.shift import table as shift_table
from jaxpolicy import envs, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.wrap import truth, vectorize
from jaxpolicy.io import checkpoint, workdir
from jaxpolicy.loops import evaluate
from jaxpolicy.ops import distances
from jaxpolicy.runs import build, evaluation
from jaxpolicy.runs import saved as trained_run

PyTree = Any

NEIGHBOUR = 5  # the k-th nearest demonstrated state counts
FLOOR = 1e-4  # least variance of a direction, in normalised units
MOST_STATES, MOST_REFERENCES = 4096, 8192  # visited and demonstrated states that are compared
TRACED_EPISODES = 256  # episodes whose visited states are kept


class Trained(NamedTuple):
    """A policy, and the task that it is measured in."""

    name: str
    config: config_dict.ConfigDict
    module: Any  # of the task
    task: Any  # the task's Config
    spec: types.Spec  # the task's
    hz: float  # actions in a second
    table: dict[str, shift_table.Shift]  # the task's shifts
    train: PyTree  # of its first seed
    step: int  # of the checkpoint
    weights: int  # their checksum


class Demonstrations(NamedTuple):
    """Demonstrated states, and the yardstick that they give."""

    scale: shift_table.Scale  # in physical units
    reference: jax.Array  # [m, D], normalised
    gaussian: distances.Gaussian  # of them, normalised
    name: str  # of the file, with the number of its steps


class Outcome(NamedTuple):
    """What one policy did in one shifted task."""

    success: jax.Array  # [N] 0 or 1
    env_steps: jax.Array  # [N], up to the episode's end
    states: jax.Array  # [T, n, D], true observations after each step
    valid: jax.Array  # [T, n], which of them belong to an episode


# (policy, name of a shift, its severity) -> Outcome
Run = Callable[[Trained, str, float], Outcome]


def load(directory: Path, name: str, which: str, host: bool = False) -> Trained:
    """A run's policy: of several seeds, the first one's.

    Args:
      host: Push-T is gym-pusht; otherwise its runs are measured on the device.

    Raises:
      ValueError: there is no such run or checkpoint, or no shifts are known for its task.
      ImportError: gym-pusht is missing.
    """
    config = trained_run.load_config(directory)
    task = config.env.name
    if task in ('pusht', 'pusht_gym'):
        task = 'pusht_gym' if host else 'pusht'
    elif host:
        raise ValueError(f'--host: expected runs of Push-T, found {task!r}')
    table = build.choose('env.name', shift_table.SHIFTS, task)
    module = (envs.HOST_ENVS if host else envs.ENVS)[task]
    if task == config.env.name:
        chosen = build.section(module, config.env)
    else:  # the same protocol in the other simulator
        chosen = module.Config(obs=config.env.obs, episode_steps=config.env.episode_steps)
    spec = (module.make_host if host else module.make)(chosen).spec
    hz = 10.0 if host else module.control_hz(chosen)
    num_seeds = workdir.load_num_seeds(directory)
    manager, step = trained_run.open_checkpoint(directory, which)
    template = evaluation.template(config, spec, num_seeds)
    restored = checkpoint.restore_train(manager, step, template)
    train = jax.device_get(evaluation.first(restored, num_seeds))
    weights = 0
    for leaf in jax.tree.leaves(train.params):
        weights = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), weights)
    return Trained(name, config, module, chosen, spec, hz, table, train, step, weights)


def demonstrations(policies: Sequence[Trained], path: str | None) -> Demonstrations:
    """A yardstick for states: the file `path`, or what the first run that has any has learnt from.

    Raises:
      ValueError: there are no demonstrations that can be read, or their observations are not flat
        or not the task's.
    """
    first = policies[0]
    configs = [policy.config for policy in policies]
    config = copy.deepcopy(next((c for c in configs if 'data' in c and c.data.path), first.config))
    if path:
        zarr = path.rstrip('/').endswith('.zarr')
        kind = {'format': 'pusht_zarr' if zarr else 'episodes', 'path': path}
        with config.unlocked():
            config.data = config_dict.ConfigDict({**kind, 'num_episodes': 0, 'subset_seed': 0})
    if 'data' not in config:
        raise ValueError('--data: expected a file of demonstrations, as no run has learnt from any')
    episodes: episodes_lib.Episodes = build.load_episodes(config)
    obs = episodes.obs
    if not isinstance(obs, np.ndarray) or obs.shape[1:] != first.spec.obs.shape:
        found = jax.tree.map(lambda x: x.shape[1:], obs)
        raise ValueError(f'--data: expected observations {first.spec.obs.shape}, found {found}')
    mean, std = obs.mean(0, dtype=np.float64), obs.std(0, dtype=np.float64)
    scale = shift_table.Scale(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
    points = _normalized(scale, obs)
    gaussian = jax.jit(distances.fit_gaussian, static_argnums=1)(points, FLOOR)
    rows = np.random.default_rng(0).permutation(len(obs))[:MOST_REFERENCES]
    name = f'{Path(config.data.path).name}, {len(obs)} steps'
    return Demonstrations(scale, points[rows], gaussian, name)


def make_run(policy: Trained, scale: shift_table.Scale, seeds: np.ndarray) -> Run:
    """One program for all shifts, and for all policies whose `program` is that of this one."""
    mode = evaluation.is_deterministic(policy.config)
    hidden = tuple(policy.config.disturb.get('hidden', ()))
    module, task, table = policy.module, policy.task, policy.table

    @jax.jit
    def run(train: PyTree, strength: dict, scale: shift_table.Scale, seeds: jax.Array) -> Outcome:
        env = shift_table.make_env(module, task, hidden, table, strength, scale)
        act = evaluation.make_policy(policy.config, env.spec, mode)(train)
        keys = jax.vmap(jax.random.key)(seeds)
        act_key = jax.random.fold_in(keys[0], 2**31 - 1)
        return play(vectorize.vectorize(env), act, keys, act_key, task.episode_steps)

    def call(policy: Trained, name: str, severity: float) -> Outcome:
        strength = shift_table.strengths(table, name, severity)
        return jax.device_get(run(policy.train, strength, scale, seeds))

    return call


def play(
    env: types.Env, policy: types.Policy, keys: types.Key, act_key: types.Key, num_steps: int
) -> Outcome:
    """Plays N episodes of a vectorized `shift_table.make_env`, until the last one has ended."""
    n = min(len(keys), TRACED_EPISODES)
    state = env.reset(keys)
    zeros = jnp.zeros((len(keys),))
    nothing = Outcome(
        success=zeros,
        env_steps=zeros,
        states=jnp.zeros((num_steps, n, *env.spec.obs.shape)),
        valid=jnp.zeros((num_steps, n), bool),
    )

    def going(carry):
        t, _, _, running, _ = carry
        return (t < num_steps) & running.any()

    def step(carry):
        t, state, memory, running, past = carry
        memory, action, _ = policy.act(memory, state.obs, jax.random.fold_in(act_key, t))
        state = env.step(state, action)
        success = jnp.where(running, state.metrics['success'], 0.0)
        past = Outcome(
            success=jnp.maximum(past.success, success),
            env_steps=past.env_steps + jnp.where(running, state.metrics['env_steps'], 0.0),
            states=past.states.at[t].set(truth.truth(state)[:n]),
            valid=past.valid.at[t].set(running[:n]),
        )
        return t + 1, state, memory, running & ~(state.termination | state.truncation), past

    carry = (jnp.zeros((), int), state, policy.init(state.obs), zeros == 0, nothing)
    return jax.lax.while_loop(going, step, carry)[-1]


def program(policy: Trained) -> str:
    """What two policies must have in common to share a compiled program."""
    groups = ('agent', 'env', 'execute', 'normalize', 'disturb', 'augment')
    config = policy.config.to_dict()
    told = {name: config[name] for name in groups if name in config}
    return json.dumps(
        [told, config['loop']['name'], list(policy.config.eval.modes)], default=str, sort_keys=True
    )


def row(outcome: Outcome, policy: Trained, shown: Demonstrations) -> dict[str, Any]:
    """The numbers of one outcome; a time in s of simulated time, distances in normalised units.

    An episode without success failed when it ended, as at the touch of a pillar, or at the time
    limit. Distances are means over visited states, None where no state was finite.
    """
    success, low, high = evaluate.confidence_interval(outcome.success, 'binary')
    failed = outcome.env_steps[outcome.success == 0] / policy.hz
    knn, mahalanobis = _distances(np.asarray(outcome.states[outcome.valid]), shown)
    return {
        'success': success,
        'low': low,
        'high': high,
        'time_to_failure_s': float(failed.mean()) if failed.size else None,
        'knn': knn,
        'mahalanobis': mahalanobis,
    }


def _normalized(scale: shift_table.Scale, obs: Any) -> jax.Array:
    """Observations [n, D] in standard deviations from the mean; constant columns in their units."""
    return (jnp.asarray(obs) - scale.mean) / jnp.where(scale.std > 1e-6, scale.std, 1.0)


@jax.jit
def _measure(states: jax.Array, shown: tuple) -> tuple[jax.Array, jax.Array]:
    scale, reference, gaussian = shown
    points = _normalized(scale, states)
    nearest = distances.nearest(points, reference, min(NEIGHBOUR, len(reference)))
    return nearest, distances.mahalanobis(points, gaussian)


def _distances(states: np.ndarray, shown: Demonstrations) -> tuple[float | None, float | None]:
    """Means over a random subset of the finite ones of the states [n, D]."""
    states = states[np.isfinite(states).all(1)]
    count = min(len(states), MOST_STATES)
    if not count:
        return None, None
    chosen = states[np.random.default_rng(0).permutation(len(states))[:count]]
    chosen = np.pad(chosen, ((0, MOST_STATES - count), (0, 0)), mode='edge')  # one program
    found = jax.device_get(_measure(chosen, shown[:3]))
    knn, mahalanobis = (float(x[:count].mean()) for x in found)
    return knn, mahalanobis
