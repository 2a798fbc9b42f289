"""A policy and a person in turns, one robot, one step after another."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.render import console
from jaxpolicy.envs.tasks import detour_expert as expert
from jaxpolicy.runs import build


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
    """Steps of all episodes so far."""

    obs: list[np.ndarray]
    action: list[np.ndarray]
    intervention: list[bool]
    ends: list[int]

    def episodes(self, env: str) -> episodes_lib.Episodes:
        """As episodes, of which there is at least one."""
        return episodes_lib.Episodes(
            obs=np.stack(self.obs),
            action=np.stack(self.action),
            episode_ends=np.asarray(self.ends, np.int64),
            info={'env': env, 'source': 'a policy and a person in turns'},
            tags={'intervention': np.asarray(self.intervention, np.uint8)},
        )


def session(
    config: Any, policy: types.Policy, person: Console, num_episodes: int, first_seed: int
) -> Iterator[episodes_lib.Episodes]:
    """Episodes with a policy and a person in turns: all so far, after each that has a step."""
    env, steer = build.make_env(config), steering(config)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    first = reset(jax.random.key(first_seed)[None])  # compile now, not under the person's hands
    jax.block_until_ready(step(first, steer(first.obs[0], jnp.zeros(3))[None]))
    found = Recorded([], [], [], [])
    for seed in range(first_seed, first_seed + num_episodes):
        state, was_person = reset(jax.random.key(seed)[None]), False
        act_key = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)  # no key of the start
        carry, before, command = policy.init(state.obs), len(found.obs), console.Command()
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
                carry, action, _ = policy.act(carry, state.obs, jax.random.fold_in(act_key, t))
            found.obs.append(np.asarray(state.obs[0]))
            found.action.append(np.clip(np.asarray(action[0], np.float32), -1.0, 1.0))
            found.intervention.append(was_person)
            state = step(state, action)
            if state.termination[0] | state.truncation[0]:
                break
        if len(found.obs) > before:
            found.ends.append(len(found.obs))
            yield found.episodes(config.env.name)
        if command.quit:
            break
