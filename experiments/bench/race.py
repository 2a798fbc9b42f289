"""Training runs of `experiments.bench.rl` side by side: rounds in turns, until a threshold."""

import dataclasses
import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.loops import evaluate, off_policy
from jaxpolicy.runs import environment

from . import ours

FIRST = 2  # rounds of a run that may compile


class Goal(NamedTuple):
    """When a run has learnt its task: as soon as a metric's mean over episodes reaches `value`.

    Without a metric, '', there is no goal.
    """

    metric: str = ''
    value: float = 0.0
    num_episodes: int = 256


@dataclasses.dataclass
class Record:
    """One run of one side."""

    run: ours.Contender
    first_s: float  # from nothing to the end of round FIRST
    memory_mb: float  # the peak by then
    rounds: list[float]  # seconds of each of those that followed
    reached: int | None = None  # rounds until the goal

    @property
    def compile_s(self) -> float:
        """Seconds of the first rounds beyond what as many compiled ones take."""
        return self.first_s - FIRST * float(np.median(self.rounds))

    @property
    def train_s(self) -> float:
        """Seconds of training until the goal, without compilation; inf if it was not reached."""
        if self.reached is None:
            return float('inf')
        return FIRST * float(np.median(self.rounds)) + sum(self.rounds[: self.reached - FIRST])


def race(
    config: config_dict.ConfigDict,
    sides: dict[str, Any],
    seed: int,
    repeats: int,
    goal: Goal,
    clocks: dict[str, Callable[[], Any]],
) -> tuple[dict[str, Record], dict[str, list]]:
    """Trains one run of each side; they and the clocks take turns, so that noise hits all alike.

    Args:
      sides: modules with `start(config, seed) -> Contender`, by name.
      repeats: rounds of each side at least, besides the first ones, and readings of each clock.
      clocks: what else to measure.

    Returns:
      the runs by side, the readings by clock.
    """
    records = {name: _begin(config, side, seed) for name, side in sides.items()}
    scores = {name: _scorer(config, r.run, goal) for name, r in records.items() if goal.metric}
    limit = -(-config.loop.num_env_steps // steps_per_round(config))
    readings: dict[str, list] = {name: [] for name in clocks}

    def searching(name: str) -> bool:
        record = records[name]
        return name in scores and not record.reached and FIRST + len(record.rounds) < limit

    turn = 0
    while turn < repeats or any(map(searching, records)):
        for name, record in records.items():
            search = searching(name)
            if search or turn < repeats:
                record.rounds.append(record.run.round())
            if search and scores[name](record.run.weights()) >= goal.value:
                record.reached = FIRST + len(record.rounds)
        for name, clock in clocks.items():
            if turn < repeats:
                readings[name].append(clock())
        turn += 1
    for record in records.values():
        record.run.close()
    return records, readings


def steps_per_round(config: config_dict.ConfigDict) -> int:
    """Environment steps of one round."""
    loop = config.loop
    return loop.num_envs * loop.rollout_length * loop.iterations_per_round


def _begin(config: config_dict.ConfigDict, side: Any, seed: int) -> Record:
    start = time.perf_counter()
    run = side.start(config, seed)
    for _ in range(FIRST):
        run.round()
    return Record(run, time.perf_counter() - start, _peak_memory_mb(), [])


def check(config: config_dict.ConfigDict, goal: Goal) -> None:
    """Raises a ValueError where the task has no such metric; it compiles nothing."""
    env = environment.make_env(config)
    policy = off_policy.random_policy(env.spec)
    episodes = jax.eval_shape(lambda: _episodes(config, env, policy, goal))
    if goal.metric and goal.metric not in episodes:
        raise ValueError(f'--threshold: expected one of {sorted(episodes)}, found {goal.metric!r}')


def _scorer(config: config_dict.ConfigDict, run: ours.Contender, goal: Goal) -> Callable:
    """A function weights -> the mean of the goal's metric, in the same episodes for every side."""
    env = environment.make_env(config)

    @jax.jit
    def score(weights):
        return _episodes(config, env, run.policy_of(weights), goal)[goal.metric].mean()

    return score


def _episodes(
    config: config_dict.ConfigDict, env: types.Env, policy: types.Policy, goal: Goal
) -> dict[str, jax.Array]:
    key = jax.random.key(config.eval.first_seed)
    keys = jax.random.split(key, goal.num_episodes)
    return evaluate.evaluate(env, policy, keys, key, config.env.episode_steps)


def _peak_memory_mb() -> float:
    """The peak memory of the device where it is known, elsewhere that of the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return stats.get('peak_bytes_in_use', resident) / 2**20
