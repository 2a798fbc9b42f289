"""A policy and a person in turns, one robot, one step after another."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments import build, console
from jaxpolicy import types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs import arm, expert


class Console(Protocol):
    """Where a person sees and steers."""

    def show(self, state: types.EnvState) -> None: ...

    def command(self) -> console.Command: ...


def steering(config: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(observation [n], velocity of the tip [3] m/s) -> action [D]."""
    module, chosen = build.env_module(config)
    robot, d = arm.make(chosen.num_dof, module.HOME), chosen.num_dof

    @jax.jit
    def steer(obs, velocity):
        pose = robot.pose(obs[:d] + 0.5 * obs[2 * d : 3 * d])
        change = expert.joint_step(pose, velocity, jnp.zeros(d))
        return jnp.clip(change / chosen.action_scale, -1.0, 1.0)

    return steer


class Recorded(NamedTuple):
    obs: list[np.ndarray]
    action: list[np.ndarray]
    intervention: list[bool]
    ends: list[int]


def session(
    config: Any, policy: types.Policy, person: Console, num_episodes: int, first_seed: int
) -> episodes_lib.Episodes | None:
    """Episodes with a policy and a person in turns; None if nothing was done."""
    env, steer = build.make_env(config), steering(config)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    found = Recorded([], [], [], [])
    for seed in range(first_seed, first_seed + num_episodes):
        state, was_person, key = reset(jax.random.key(seed)[None]), False, jax.random.key(seed)
        carry = policy.init(state.obs)
        for t in range(config.env.episode_steps):
            person.show(jax.tree.map(lambda x: x[0], state))
            command = person.command()
            if command.skip or command.quit:
                break
            if was_person and not command.takeover:
                carry = policy.init(state.obs)  # what it had planned is out of date
            was_person = command.takeover
            if was_person:
                action = steer(state.obs[0], jnp.asarray(command.velocity))[None]
            else:
                carry, action, _ = policy.act(carry, state.obs, jax.random.fold_in(key, t))
            found.obs.append(np.asarray(state.obs[0]))
            found.action.append(np.clip(np.asarray(action[0], np.float32), -1.0, 1.0))
            found.intervention.append(was_person)
            state = step(state, action)
            if state.termination[0] | state.truncation[0]:
                break
        if len(found.obs) > (found.ends[-1] if found.ends else 0):
            found.ends.append(len(found.obs))
        if command.quit:
            break
    if not found.ends:
        return None
    return episodes_lib.Episodes(
        obs=np.stack(found.obs),
        action=np.stack(found.action),
        episode_ends=np.asarray(found.ends, np.int64),
        info={'env': config.env.name, 'source': 'a policy and a person in turns'},
        tags={'intervention': np.asarray(found.intervention, np.uint8)},
    )
