"""The core types: what an environment, an agent, a policy and a training loop are.

Three kinds of thing have three constructs. A bundle of functions is a `NamedTuple`; a bundle of
arrays is a `flax.struct.PyTreeNode` (a frozen dataclass that is a pytree); hyper-parameters are a
frozen `dataclass` in the file of the algorithm that they belong to.

Axes: rollouts are time-major, `[T, N, ...]` for T steps of N robots; replayed batches are
`[B, ...]`; chunks are `[B, Tp, A]`, Tp actions of A numbers each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

PyTree = Any
Key = jax.Array  # a typed key, jax.random.key(seed)
Metrics = dict[str, jax.Array]  # scalars by name, not nested


class Spec(NamedTuple):
    """Shapes and dtypes of one unbatched observation and action.

    obs: pytree of ShapeDtypeStruct.
    action: ShapeDtypeStruct [A] of floats, for actions that always lie in [-1, 1] (only the env
        knows physical units); or [M] of int8, for one of M choices, one-hot: see `is_discrete`.
    """

    obs: PyTree
    action: jax.ShapeDtypeStruct


def is_discrete(spec: Spec) -> bool:
    """Whether an action is one of M choices (one-hot, [M]) rather than numbers in [-1, 1]."""
    return jnp.issubdtype(spec.action.dtype, jnp.integer)


def check_actions(spec: Spec, discrete: bool = False, instead: str = '') -> None:
    """Raises a ValueError unless an agent's actions are of the kind that `discrete` asks for.

    Args:
      instead: an agent for the other kind, which the message then names.
    """
    if is_discrete(spec) != discrete:
        kinds = ('continuous', 'discrete')
        named = f', such as {instead}' if instead else ''
        raise ValueError(
            f'agent.name: expected an agent for {kinds[not discrete]} actions{named}, found one '
            f'for {kinds[discrete]} actions'
        )


class EnvState(struct.PyTreeNode):
    """All that an environment knows between two steps.

    `obs` is what the policy sees next; `next_obs` is where the last action led, before any reset.
    They differ only where an episode ended and a wrapper started a new one. `termination` means
    that the task ended, so that nothing of value follows; `truncation` means that time ran out, so
    that learning bootstraps from the value of `next_obs`.
    """

    obs: PyTree
    next_obs: PyTree
    reward: jax.Array  # []
    termination: jax.Array  # [] bool
    truncation: jax.Array  # [] bool
    metrics: dict[str, jax.Array]  # [] float32 each, of the last step
    key: Key
    sim: PyTree  # private to the env and its wrappers


class Env(NamedTuple):
    """A pure environment; unbatched until `envs.wrap.vectorize`."""

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

    `carry` is the policy's carry before the first of T steps, [N, ...], or () for a policy that
    carries nothing. The policy's carry starts anew after a step that ends an episode.
    """

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    termination: jax.Array
    truncation: jax.Array
    next_obs: PyTree
    extras: dict[str, jax.Array]
    carry: PyTree = ()


class Chunk(struct.PyTreeNode):
    """Windows of demonstrations: the last To observations and the Tp actions that go with them."""

    obs: PyTree  # [B, To, ...]
    action: jax.Array  # [B, Tp, A]; action[:, To - 1] belongs to obs[:, To - 1]
    mask: jax.Array  # [B, Tp] bool; False where the window reaches beyond its episode


class Goals(NamedTuple):
    """What hindsight needs of an environment whose observations contain a goal.

    achieved(obs) -> [..., G], the goal that would count as reached at `obs`.
    wanted(obs) -> [..., G], the goal that is in `obs`.
    replace(obs, goal) -> obs, as it would be with another goal.
    reward(next_obs) -> [...], the reward of the step that led there, for the goal in `next_obs`.
    """

    achieved: Callable[[PyTree], jax.Array]
    wanted: Callable[[PyTree], jax.Array]
    replace: Callable[[PyTree, jax.Array], PyTree]
    reward: Callable[[PyTree], jax.Array]


class Policy(NamedTuple):
    """Something that acts; its carry is all that it remembers from one step to the next.

    init(obs) -> carry, for obs [N, ...] at the start of N episodes; the first axis of each of its
        leaves is N. A policy that remembers nothing carries ().
    act(carry, obs, key) -> (carry, action [N, A], extras)

    A *planner* is a policy that sees histories, obs [N, To, ...], and whose action is a chunk
    [N, Tp, A]. `loops.policies` turns planners into policies that act step by step.
    """

    init: Callable[[PyTree], PyTree]
    act: Callable[[PyTree, PyTree, Key], tuple[PyTree, jax.Array, dict[str, jax.Array]]]


def memoryless(act: Callable[[PyTree, Key], tuple[jax.Array, dict[str, jax.Array]]]) -> Policy:
    """Makes a policy that remembers nothing from act(obs, key) -> (action, extras)."""
    return Policy(init=lambda obs: (), act=lambda carry, obs, key: (carry, *act(obs, key)))


def check_memoryless(carry: PyTree, who: str) -> None:
    """Raises a ValueError if the policy that begins with this carry remembers something."""
    if shapes := [leaf.shape for leaf in jax.tree.leaves(carry)]:
        raise ValueError(
            f'{who}: expected a policy that remembers nothing, found one that carries arrays of '
            f'the shapes {shapes}'
        )


class Agent(NamedTuple):
    """A learning rule.

    init(key) -> TrainState
    update(state, batch, key) -> (state, metrics)
    policy(state, deterministic=False) -> Policy; an agent that learns from chunks has a planner.
        `deterministic` may be a traced bool, so that one compiled program evaluates both kinds of
        policy. If a policy remembers something, `Transition.carry` gives `update` what it
        remembered when the rollout began.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]
    policy: Callable[..., Policy]


class ScoringAgent(NamedTuple):
    """An agent that can say how unlikely a chunk is.

    surprise(state, chunk, key) -> [B], how unlikely the agent finds the actions of each row of a
        `Chunk`, given its observations: the loss of that row under the weights that act.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]
    policy: Callable[..., Policy]
    surprise: Callable[[Any, Chunk, Key], jax.Array]


class ReplayAgent(NamedTuple):
    """An agent that learns from replayed experience, and also looks at it once when it is new.

    observe(state, rollout) -> state: takes in new experience [T, N] before it is stored.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Any, Key], tuple[Any, Metrics]]
    policy: Callable[..., Policy]
    observe: Callable[[Any, Transition], Any]


AnyAgent = Agent | ScoringAgent | ReplayAgent


class LoopState(struct.PyTreeNode):
    """Everything that a training run must save to continue exactly."""

    train: Any  # TrainState
    env: PyTree  # EnvState [N], or () for offline training
    key: Key
    memory: PyTree = ()  # the policy's carry, [N, ...], or () where it remembers nothing


class Loop(NamedTuple):
    """A training loop: one call of `step` is one round. `data` is () for online learning.

    init(key) -> LoopState
    step(LoopState, data) -> (LoopState, metrics averaged over the round). Two metrics are not
        averages but int32 counts: 'updates', the gradient updates of this call, and 'env_steps',
        the environment steps since the last call.
    """

    init: Callable[[Key], LoopState]
    step: Callable[[LoopState, PyTree], tuple[LoopState, Metrics]]
