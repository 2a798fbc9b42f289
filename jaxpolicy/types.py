"""The core types: what an environment, an agent, a policy and a training loop are.

Three kinds of thing, three constructs. A bundle of functions is a `NamedTuple`; a bundle of arrays
is a `flax.struct.PyTreeNode` (a frozen dataclass that is a pytree); hyper-parameters are a frozen
`dataclass` in the file of the algorithm that they belong to.

Axes: rollouts are time-major `[T, N, ...]`, replayed batches `[B, ...]`, chunks `[B, Tp, A]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

PyTree = Any
Key = jax.Array  # a typed key, jax.random.key(seed)
Metrics = dict[str, jax.Array]  # flat, scalars


class Spec(NamedTuple):
    """Shapes and dtypes of one unbatched observation and action.

    obs: pytree of ShapeDtypeStruct.
    action: ShapeDtypeStruct [A]; actions always lie in [-1, 1], physical units live in the env. Or
        int8 [M]: one of M choices, one-hot; see `is_discrete`.
    """

    obs: PyTree
    action: jax.ShapeDtypeStruct


def is_discrete(spec: Spec) -> bool:
    """Whether an action is one of M choices, one-hot [M], and not numbers in [-1, 1]."""
    return jnp.issubdtype(spec.action.dtype, jnp.integer)


def check_actions(spec: Spec, discrete: bool = False) -> None:
    """Raises a ValueError for the wrong kind of actions."""
    if is_discrete(spec) != discrete:
        kinds = ('continuous', 'discrete')
        raise ValueError(
            f'env.name: expected {kinds[discrete]} actions for this agent, found '
            f'{kinds[not discrete]} ones'
        )


class EnvState(struct.PyTreeNode):
    """All that an environment knows between two steps.

    `obs` is what the policy sees next; `next_obs` is where the last action led, before any reset.
    They differ only where an episode ended and a transform started a new one. `termination` means
    that the task ended (no value beyond), `truncation` that time ran out (bootstrap).
    """

    obs: PyTree
    next_obs: PyTree
    reward: jax.Array  # []
    termination: jax.Array  # [] bool
    truncation: jax.Array  # [] bool
    metrics: dict[str, jax.Array]  # [] float32 each, of the last step
    key: Key
    sim: PyTree  # private to the env and its transforms


class Env(NamedTuple):
    """A pure environment; unbatched until `envs.transforms.vectorize`."""

    reset: Callable[[Key], EnvState]
    step: Callable[[EnvState, jax.Array], EnvState]
    spec: Spec


class HostEnv(NamedTuple):
    """A batch of simulators that live outside JAX, for evaluation only.

    reset(seeds) -> obs [N, ...]; one simulator per seed, seeded by it alone.
    step(action [N, A]) -> (obs [N, ...], reward [N], termination [N], metrics {name: [N]}).
    render(index) -> uint8 [H, W, 3], the picture of one simulator.
    """

    reset: Callable[[Any], PyTree]
    step: Callable[[Any], tuple[PyTree, Any, Any, dict[str, Any]]]
    render: Callable[[int], Any]
    spec: Spec


class Transition(struct.PyTreeNode):
    """Steps of experience, [T, N, ...] from a rollout or [B, ...] from a buffer.

    `memory` is what the policy remembered before the first of T steps, [N, ...], or () for a policy
    that remembers nothing. It starts anew after a step that ends an episode.
    """

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    termination: jax.Array
    truncation: jax.Array
    next_obs: PyTree
    extras: dict[str, jax.Array]
    memory: PyTree = ()


class Remembered(struct.PyTreeNode):
    """What a recurrent agent acts on."""

    obs: PyTree  # [N, ...]
    memory: PyTree  # [N, ...]


def no_memory(obs: PyTree) -> PyTree:
    """The memory of an agent that decides by what it sees."""
    del obs
    return ()


def no_surprise(state: Any, chunk: Any, key: Key) -> jax.Array:
    """The surprise of an agent that has none.

    Raises:
      ValueError: always.
    """
    raise ValueError('this agent does not say how likely a chunk is')


class Chunk(struct.PyTreeNode):
    """Windows of demonstrations: the last To observations and the Tp actions that go with them."""

    obs: PyTree  # [B, To, ...]
    action: jax.Array  # [B, Tp, A]; action[:, To - 1] belongs to obs[:, To - 1]
    mask: jax.Array  # [B, Tp] bool; False where the window reaches beyond its episode


def no_news(state: Any, rollout: Transition) -> Any:
    """The state of an agent that new experience teaches nothing before it is replayed."""
    del rollout
    return state


class Goals(NamedTuple):
    """What hindsight needs of an environment whose observations contain a goal.

    achieved(obs) -> [..., G], what was reached there, in the units of goals.
    wanted(obs) -> [..., G], the goal.
    replace(obs, goal) -> obs, as it would be with another goal.
    reward(next_obs) -> [...], of the step that led there, with the goal that is in it.
    """

    achieved: Callable[[PyTree], jax.Array]
    wanted: Callable[[PyTree], jax.Array]
    replace: Callable[[PyTree, jax.Array], PyTree]
    reward: Callable[[PyTree], jax.Array]


class Agent(NamedTuple):
    """A learning rule.

    init(key) -> TrainState
    update(state, batch, key) -> (state, metrics)
    act(state, obs, key, deterministic=False) -> (action, extras); `obs` is batched. An agent that
        plans chunks takes obs [B, To, ...] and returns action [B, Tp, A]. `deterministic` may be a
        traced bool: evaluations of both kinds are one program.
    memory(obs) -> what a recurrent agent remembers at the start of N episodes; every leaf of it
        leads with N. Such an agent acts on `Remembered`, and extras['memory'] is what it remembers
        from then on. Its `update` finds the memory of a rollout's start in `Transition.memory`.
    surprise(state, chunk, key) -> [B], how unlikely the agent that acts finds the actions of a
        `Chunk` where it is: what its loss is of each.
    observe(state, rollout) -> state: takes in new experience [T, N] before it is stored; for
        agents that learn from what is replayed.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]
    act: Callable[..., tuple[jax.Array, dict[str, Any]]]
    memory: Callable[[PyTree], PyTree] = no_memory
    surprise: Callable[[Any, Any, Key], jax.Array] = no_surprise
    observe: Callable[[Any, Transition], Any] = no_news


class Policy(NamedTuple):
    """Something that acts, with a memory: chunk queues, recurrent states, mixtures.

    init(obs) -> carry, for obs [N, ...] at the start of N episodes; every leaf of it leads with N.
    act(carry, obs, key) -> (carry, action [N, A], extras)
    """

    init: Callable[[PyTree], PyTree]
    act: Callable[[PyTree, PyTree, Key], tuple[PyTree, jax.Array, dict[str, jax.Array]]]


class LoopState(struct.PyTreeNode):
    """Everything that a training run must save to continue exactly."""

    train: Any  # TrainState
    env: PyTree  # EnvState [N], or () for offline training
    key: Key
    memory: PyTree = ()  # the policy's, [N, ...], or () where it remembers nothing


class Loop(NamedTuple):
    """A training loop: `step` is one epoch. `data` is () for online learning.

    init(key) -> LoopState
    step(LoopState, data) -> (LoopState, metrics averaged over the epoch)
    """

    init: Callable[[Key], LoopState]
    step: Callable[[LoopState, PyTree], tuple[LoopState, Metrics]]
