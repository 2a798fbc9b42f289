"""What the shift study measures: trained policies in shifted tasks, far from demonstrations."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import envs, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.wrap import auto_reset, truth, vectorize
from jaxpolicy.io import fingerprint
from jaxpolicy.ops import distances, intervals
from jaxpolicy.runs import dataset, learner, saved, sections

from . import table

PyTree = types.PyTree

NEIGHBOUR = 5  # the k-th nearest demonstrated state counts
FLOOR = 1e-4  # least variance of a direction, in normalised units
MOST_STATES, MOST_REFERENCES = 4096, 8192  # visited and demonstrated states that are compared
TRACED_EPISODES = 256  # episodes whose visited states are kept


class Trained(NamedTuple):
    """A policy, and the task that it is measured in."""

    name: str
    run: saved.Saved  # of several seeds, the first one's weights act
    task: envs.Task
    chosen: Any  # the task's Config
    hz: float  # actions in a second
    shifts: dict[str, table.Shift]  # the task's
    weights: str  # their fingerprint
    code: str  # the fingerprint of what acts, simulates and measures


class Demonstrations(NamedTuple):
    """Demonstrated states, and the yardstick that they give."""

    scale: table.Scale  # in physical units
    reference: jax.Array  # [m, D], normalised
    gaussian: distances.Gaussian  # of them, normalised
    name: str  # of the file, with the number of its steps
    fingerprint: str


class Outcome(NamedTuple):
    """What one policy did in one shifted task."""

    success: jax.Array  # [N] 0 or 1
    env_steps: jax.Array  # [N], up to the episode's end
    broken: jax.Array  # [N] bool: the episode ended because it broke, and counts nowhere else
    states: jax.Array  # [T, n, D], true observations after each step
    valid: jax.Array  # [T, n], which of them belong to an episode


Row = dict[str, Any]
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
    run = saved.open_run(directory, which)
    group = run.config.env
    task_name = group.name
    if task_name in ('pusht', 'pusht_gym'):
        task_name = 'pusht_gym' if host else 'pusht'
    elif host:
        raise ValueError(f'--host: expected runs of Push-T, found {task_name!r}')
    shifts = table.SHIFTS[sections.choose('env.name', table.SHIFTS, task_name)]
    task = envs.resolve(task_name)
    if task_name == group.name:
        chosen = sections.section(type(task.config), group, 'env')
    else:  # the same protocol in the other simulator
        chosen = type(task.config)(obs=group.obs, episode_steps=group.episode_steps)
    assert task.control_hz is not None
    weights = fingerprint.of(run.first)
    code = saved.code_of(run.config, [Path(__file__).parent])
    return Trained(name, run, task, chosen, task.control_hz(chosen), shifts, weights, code)


def policy_of(trained: Trained) -> Callable[[PyTree], types.Policy]:
    """Weights -> the policy, which acts in the mode that counts in the run's evaluations."""
    return trained.run.policy_of(learner.acts_deterministically(trained.run.config))


def demonstrations(policies: Sequence[Trained], path: str | None) -> Demonstrations:
    """A yardstick for states: the file `path`, or what the first run that has any has learnt from.

    Raises:
      ValueError: there are no demonstrations that can be read, or their observations are not flat
        or not the task's.
    """
    episodes, name = _load(policies, path)
    obs, wanted = episodes.obs, policies[0].run.spec.obs
    if not isinstance(obs, np.ndarray) or obs.shape[1:] != wanted.shape:
        found = jax.tree.map(lambda x: x.shape[1:], obs)
        raise ValueError(f'--data: expected observations {wanted.shape}, found {found}')
    mean, std = obs.mean(0, dtype=np.float64), obs.std(0, dtype=np.float64)
    scale = table.Scale(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))
    points = _normalized(scale, obs)
    gaussian = jax.jit(distances.fit_gaussian, static_argnums=1)(points, FLOOR)
    rows = np.random.default_rng(0).permutation(len(obs))[:MOST_REFERENCES]
    name, mark = f'{name}, {len(obs)} steps', dataset.fingerprint(episodes)
    return Demonstrations(scale, points[rows], gaussian, name, mark)


def _load(policies: Sequence[Trained], path: str | None) -> tuple[episodes_lib.Episodes, str]:
    """The demonstrations, and the name of their file."""
    if path:
        first = path.split(',')[0].strip().rstrip('/')
        kind = 'pusht_zarr' if first.endswith('.zarr') else 'episodes'
        config = policies[0].run.config
        parts = dataset.read(path, '--data', kind, config.env)
        dataset.judge(dataset.about(config), parts)
        return dataset.join(parts), ', '.join(Path(path).name for path, _ in parts)
    runs = [policy.run for policy in policies]
    run = next((run for run in runs if 'data' in run.config and run.config.data.path), None)
    if run is None:
        raise ValueError('--data: expected a file of demonstrations, as no run has learnt from any')
    return saved.learnt_from(run), Path(run.config.data.path).name


def make_run(policy: Trained, scale: table.Scale, seeds: np.ndarray) -> Run:
    """One program for all shifts, and for all policies whose `program` is that of this one."""
    make_policy, hidden = policy_of(policy), tuple(policy.run.config.disturb.hidden)
    task, chosen, shifts = policy.task, policy.chosen, policy.shifts

    @jax.jit
    def run(train: PyTree, strength: dict, scale: table.Scale, seeds: jax.Array) -> Outcome:
        env = table.make_env(task, chosen, hidden, shifts, strength, scale)
        keys = jax.vmap(jax.random.key)(seeds)
        act_key = jax.random.fold_in(keys[0], 2**31 - 1)
        batch = vectorize.vectorize(env)
        return play(batch, make_policy(train), keys, act_key, chosen.episode_steps)

    def call(policy: Trained, name: str, severity: float) -> Outcome:
        strength = table.strengths(shifts, name, severity)
        return jax.device_get(run(policy.run.first, strength, scale, seeds))

    return call


def play(
    env: types.Env, policy: types.Policy, keys: types.Key, act_key: types.Key, num_steps: int
) -> Outcome:
    """Plays N episodes of a vectorized `table.make_env`, until the last one has ended."""
    n = min(len(keys), TRACED_EPISODES)
    state = env.reset(keys)
    zeros, broken = jnp.zeros((len(keys),)), auto_reset.broken(state)
    nothing = Outcome(
        success=zeros,
        env_steps=zeros,
        broken=broken,
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
        broke = running & auto_reset.broken(state, action)
        running = running & ~broke
        success = jnp.where(running, state.metrics['success'], 0.0)
        past = Outcome(
            success=jnp.maximum(past.success, success),
            env_steps=past.env_steps + jnp.where(running, state.metrics['env_steps'], 0.0),
            broken=past.broken | broke,
            states=past.states.at[t].set(truth.truth(state)[:n]),
            valid=past.valid.at[t].set(running[:n]),
        )
        return t + 1, state, memory, running & ~(state.termination | state.truncation), past

    carry = (jnp.zeros((), int), state, policy.init(state.obs), ~broken, nothing)
    return jax.lax.while_loop(going, step, carry)[-1]


def program(policy: Trained) -> str:
    """What two policies must have in common to share a compiled program."""
    groups = ('agent', 'env', 'execute', 'normalize', 'disturb', 'augment')
    config = policy.run.config.to_dict()
    told = {name: config[name] for name in groups if name in config}
    told |= {'kind': config['loop']['name'], 'modes': config['eval']['modes']}
    return json.dumps(told, default=str, sort_keys=True)


def identity(policy: Trained) -> Row:
    """What a policy's numbers depend on, besides the episodes and the demonstrations."""
    return {
        'policy': policy.name,
        'step': policy.run.step,
        'weights': policy.weights,
        'config': fingerprint.of([program(policy), str(policy.chosen)]),
        'code': policy.code,
    }


def row(outcome: Outcome, policy: Trained, shown: Demonstrations) -> dict[str, Any]:
    """The numbers of one outcome; a time in s of simulated time, distances in normalised units.

    An episode without success failed when it ended, as at the touch of a pillar, or at the time
    limit. Distances are means over visited states, None where no state was finite. Broken episodes
    are counted and left out; without any other, success and its interval are None.
    """
    sound = ~np.asarray(outcome.broken)
    won, steps = np.asarray(outcome.success)[sound], np.asarray(outcome.env_steps)[sound]
    success, low, high = (None, None, None)
    if len(won):
        success, low, high = intervals.confidence_interval(won, 'binary')
    failed = steps[won == 0] / policy.hz
    valid = np.asarray(outcome.valid) & sound[: outcome.valid.shape[1]]
    knn, mahalanobis = _distances(np.asarray(outcome.states)[valid], shown)
    return {
        'success': success,
        'low': low,
        'high': high,
        'broken_episodes': int((~sound).sum()),
        'time_to_failure_s': float(failed.mean()) if failed.size else None,
        'knn': knn,
        'mahalanobis': mahalanobis,
    }


def _normalized(scale: table.Scale, obs: Any) -> jax.Array:
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
