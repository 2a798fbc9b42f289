"""gym-pusht under the shifts of `experiments.studies.shift`, for --host: outside JAX, in numpy.

What disturbs stands between the simulators and the policy, so the shifts that reach into the
simulator (push) are missing from `table.SHIFTS['pusht_gym']`.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxpolicy import types
from jaxpolicy.envs.adapters import pusht_gym
from jaxpolicy.loops import evaluate

from . import measure, table


def make_run(policy: measure.Trained, scale: table.Scale, seeds: np.ndarray) -> measure.Run:
    """As `measure.make_run`; one episode per seed, of the protocol's starts."""
    compiled = evaluate.compiled(measure.policy_of(policy))
    hidden = tuple(policy.run.config.disturb.hidden)
    shown = table.Scale(*jax.device_get(scale))
    num_steps = policy.chosen.episode_steps

    def call(policy: measure.Trained, name: str, severity: float) -> measure.Outcome:
        strength = {other: shift.nominal for other, shift in policy.shifts.items()}
        strength[name] = severity
        env, states = make_env(policy.chosen, hidden, strength, shown)
        key = jax.random.fold_in(jax.random.key(int(seeds[0])), 2**31 - 1)
        interval = int(strength['control_rate'])
        most = -(-num_steps // interval)
        found = evaluate.evaluate_host(env, compiled(policy.run.first), key, seeds, most)
        visited = np.stack(states)[:, : measure.TRACED_EPISODES]
        length = found['length']
        valid = np.arange(len(visited))[:, None] < length[: visited.shape[1]]
        steps = np.minimum(length * interval, num_steps)
        broken = found['broken'] > 0
        return measure.Outcome(found['success_max'], steps, broken, visited, valid)  # pyright: ignore

    return call


def make_env(
    config: pusht_gym.Config,
    hidden: tuple[int, ...],
    strength: dict[str, float],
    scale: table.Scale,
) -> tuple[types.HostEnv, list[np.ndarray]]:
    """The shifted simulators, and a list to which each step adds the true observations [N, D].

    Args:
      hidden: columns that the policy never sees.
      strength: of each shift of 'pusht_gym'.
      scale: numpy's arrays.
    """
    inner = pusht_gym.BOX[1] + strength['starts'] if strength['starts'] else 0.0
    env = pusht_gym.make_host(dataclasses.replace(config, block_inner=inner))
    states: list[np.ndarray] = []
    now: dict[str, Any] = {}  # what the episode remembers: 'random', 'bias', 'late'

    def see(obs: np.ndarray) -> np.ndarray:
        random = now['random']
        seen = obs + now['bias'] + strength['obs_noise'] * scale.std * random.normal(size=obs.shape)
        seen = np.where(random.uniform(size=obs.shape) < strength['obs_dropout'], scale.mean, seen)
        seen[:, list(hidden)] = 0.0
        return seen.astype(np.float32)

    def reset(seeds: np.ndarray) -> np.ndarray:
        obs, random = env.reset(seeds), np.random.default_rng(int(seeds[0]))
        agent = obs[:, -2:] if config.obs == 'keypoints' else obs[:, :2]
        idle = agent / (pusht_gym.WINDOW_PX / 2) - 1.0
        bias = strength['obs_bias'] * scale.std * random.normal(size=obs.shape)
        now.update(random=random, bias=bias, late=[idle] * int(strength['latency']))
        states.clear()
        return see(obs)

    def step(action: np.ndarray):
        noise = strength['action_noise'] * now['random'].normal(size=action.shape)
        now['late'] = [*now['late'], action]
        late, *now['late'] = now['late']
        total = 0.0
        for _ in range(int(strength['control_rate'])):
            obs, reward, termination, metrics = env.step(late + noise)
            total = total + reward
        states.append(obs)
        return see(obs), total, termination, metrics

    return types.HostEnv(reset, step, env.render, env.spec), states
