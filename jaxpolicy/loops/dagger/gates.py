"""Who acts next, the learner or the expert: one score function for each way of deciding.

At the start of every block of Ta steps the learner plans; a gate scores the plan, and where a score
is above its threshold the expert takes the block over. Scores of S kinds are kept apart, each with
a threshold of its own.

    beta      chance: the expert acts with probability beta of the round. DAgger, Ross et al., 2011
              (arXiv:1011.0686); every visited state may be labelled, whoever acted.
    expert    the expert decides, who sees how far the planned action is from its own. HG-DAgger,
              Kelly et al., 2019 (arXiv:1810.02890), with SafeDAgger's measure (Zhang and Cho, 2016,
              arXiv:1605.06450).
    thrifty   the robot decides by novelty, the disagreement of an ensemble, and by risk, the
              learnt probability of failure. ThriftyDAgger, Hoque et al., 2021 (arXiv:2109.08273).
    surprise  the robot decides by the loss of its own plan: a diffusion policy's denoising loss, or
              minus the log density of BC. Diff-DAgger, Lee et al., 2024 (arXiv:2410.14868).

Thresholds, but beta's, are quantiles of the scores in states that the learner reached alone in the
same round, such that about `budget` of the blocks are taken over (ThriftyDAgger, section 4.4).
Diff-DAgger takes a quantile over the demonstrations instead; with a budget, gates compare.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.ops import statistics

GATES = ('beta', 'expert', 'thrifty', 'surprise')
SCHEDULES = ('constant', 'linear', 'exponential')


class Seen(NamedTuple):
    """What a gate may look at, for N robots."""

    train: Any  # the learner's TrainState
    risk: Any  # the risk's TrainState, or ()
    chunk: types.Chunk  # the last observations and what the learner plans
    extras: dict[str, jax.Array]  # of the learner's `act`
    suggestion: jax.Array  # [N, A], what the expert would do now


class Gate(NamedTuple):
    """score(seen, key) -> [N, S].

    threshold(scores [..., S], reached [...], budget, round) -> [S]; `reached` says where a robot
    was still running.
    num_kinds: S.
    uses_expert: the scores need the expert's suggestion.
    labels_all: any visited state may be labelled, not only those that were taken over.
    """

    score: Callable[[Seen, types.Key], jax.Array]
    threshold: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    num_kinds: int = 1  # S
    uses_expert: bool = False
    labels_all: bool = False


def schedule(name: str, beta: float, num_rounds: int) -> Callable[[jax.Array], jax.Array]:
    """beta of a round 0, 1, ...: constant; linear from beta to 0; exponential, beta^(round + 1).

    Raises:
      ValueError: an unknown schedule, or a beta outside [0, 1].
    """
    if name not in SCHEDULES:
        raise ValueError(f'loop.beta_schedule: expected one of {SCHEDULES}, found {name!r}')
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f'loop.beta: expected 0 to 1, found {beta}')
    return {
        'constant': lambda r: jnp.full((), beta),
        'linear': lambda r: beta * jnp.maximum(0.0, 1.0 - r / max(num_rounds - 1, 1)),
        'exponential': lambda r: beta ** (r + 1.0),
    }[name]


def beta(chance: Callable[[jax.Array], jax.Array]) -> Gate:
    """The expert takes a block over with the round's chance."""

    def score(seen, key):
        return jax.random.uniform(key, (len(seen.chunk.action), 1))

    return Gate(score, lambda scores, reached, budget, r: 1.0 - chance(r)[None], labels_all=True)


def expert(first: int) -> Gate:
    """Distance of the planned action, row `first` of the chunk, to the expert's: RMS."""

    def score(seen, key):
        del key
        error = seen.chunk.action[:, first] - seen.suggestion
        return jnp.sqrt(jnp.mean(error**2, axis=-1, keepdims=True))

    return Gate(score, within_budget, uses_expert=True)


def thrifty(predict: Callable[[Any, types.Chunk], jax.Array]) -> Gate:
    """Novelty and risk; predict(risk's state, Chunk) -> [N]."""

    def score(seen, key):
        del key
        novelty = jnp.sqrt(seen.extras['disagreement'])
        return jnp.stack([novelty, predict(seen.risk, seen.chunk)], axis=-1)

    return Gate(score, within_budget, num_kinds=2)


def surprise(agent: types.Agent) -> Gate:
    """The agent's loss of its own plan."""

    def score(seen, key):
        return agent.surprise(seen.train, seen.chunk, key)[:, None]

    return Gate(score, within_budget)


def within_budget(scores, reached, budget, r) -> jax.Array:
    """Thresholds [S] that `budget` of the reached blocks exceed, in equal parts for each kind."""
    del r
    num_kinds = scores.shape[-1]
    q = 1.0 - jnp.minimum(budget, 1.0) / num_kinds
    kinds = jnp.moveaxis(scores, -1, 0)
    return jax.vmap(lambda x: statistics.masked_quantile(x, reached, q))(kinds)


def predictive(scores: jax.Array, reached: jax.Array, failed: jax.Array) -> jax.Array:
    """AUROC [S]: does a score tell which episodes will fail, among those as old?

    For episodes in which nobody interfered.

    Args:
      scores: [B, N, S]; reached: [B, N] bool; failed: [N] bool.
    """
    fails = jnp.broadcast_to(failed, reached.shape)
    return jax.vmap(lambda x: statistics.auroc(x, fails, reached), in_axes=2)(scores)
