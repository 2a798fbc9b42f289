"""Lets a policy and a person take turns in steering one robot."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.render import console
from jaxpolicy.envs.tasks import detour_expert
from jaxpolicy.envs.wrap import auto_reset
from jaxpolicy.runs import dataset, environment


class Console(Protocol):
    """What a person watches the robot on and steers it with."""

    def show(self, state: types.EnvState) -> None: ...

    def command(self) -> console.Command: ...


def steering(config: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A function (observation [n], velocity of the arm's tip [3] in m/s) -> action [D]."""
    task, chosen = environment.on_device(config)
    robot, d = arm.make(chosen.num_dof, task.module.HOME), chosen.num_dof

    @jax.jit
    def steer(obs, velocity):
        pose = robot.pose(obs[:d] + 0.5 * obs[2 * d : 3 * d])
        change = detour_expert.joint_step(pose, velocity, jnp.zeros(d))
        return jnp.clip(change / chosen.action_scale, -1.0, 1.0)

    return steer


class Recorded(NamedTuple):
    """The steps of all episodes so far."""

    obs: list[np.ndarray]
    action: list[np.ndarray]
    intervention: list[bool]
    ends: list[int]
    broken: list[int]  # seeds of the episodes that broke, of which nothing is kept

    def drop(self, begin: int, seed: int) -> None:
        """Forgets the steps from `begin` on, as the episode of this seed broke."""
        for steps in (self.obs, self.action, self.intervention):
            del steps[begin:]
        self.broken.append(seed)
        print(f'episode {seed} broke (a number was not finite) and is left out', file=sys.stderr)

    def episodes(self, about: dict[str, str | float]) -> episodes_lib.Episodes:
        """The steps as episodes, of which there has to be at least one; `about` goes into info."""
        broke = {'broken_episodes': len(self.broken)} if self.broken else {}
        return episodes_lib.Episodes(
            obs=np.stack(self.obs),
            action=np.stack(self.action),
            episode_ends=np.asarray(self.ends, np.int64),
            info={**about, 'source': 'a policy and a person in turns'} | broke,
            tags={'intervention': np.asarray(self.intervention, np.uint8)},
        )


def session(
    config: Any, policy: types.Policy, person: Console, num_episodes: int, first_seed: int
) -> Iterator[episodes_lib.Episodes]:
    """Yields all episodes so far, in which policy and person took turns, after each with a step.

    An episode that breaks (`envs.wrap.auto_reset.broken`) ends, and nothing of it is kept.
    """
    env, steer = environment.make_env(config), steering(config)
    reset, step, is_broken = map(jax.jit, (env.reset, env.step, auto_reset.broken))
    first = reset(jax.random.key(first_seed)[None])  # compiles now, and not while the person waits
    jax.block_until_ready(step(first, steer(first.obs[0], jnp.zeros(3))[None]))
    found = Recorded([], [], [], [], [])
    for seed in range(first_seed, first_seed + num_episodes):
        state, was_person = reset(jax.random.key(seed)[None]), False
        act_key = jax.random.fold_in(jax.random.key(seed), 2**31 - 1)  # differs from a start's key
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
            before_obs, state = state.obs, step(state, action)
            if is_broken(state, action, before_obs)[0]:
                found.drop(before, seed)
                break
            if state.termination[0] | state.truncation[0]:
                break
        if len(found.obs) > before:
            found.ends.append(len(found.obs))
            yield found.episodes(dataset.about(config))
        if command.quit:
            break
