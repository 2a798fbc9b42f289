"""Gates decide who acts next, the learner or the expert; each gate is a score function.

At the start of every block of Ta steps the learner plans and a gate scores the plan. The expert
takes the block over where a score is above its threshold. A gate gives S kinds of scores, and each
kind has its own threshold.

    beta      Chance decides: the expert acts with the round's probability beta. Every visited state
              may be labelled, whoever acted there. DAgger, Ross et al., 2011 (arXiv:1011.0686).
    expert    The expert decides, by the distance of the planned action from its own. HG-DAgger,
              Kelly et al., 2019 (arXiv:1810.02890), with SafeDAgger's measure (Zhang and Cho, 2016,
              arXiv:1605.06450).
    thrifty   The robot decides, by novelty (the disagreement of an ensemble) and by risk (the
              learnt probability of failure). ThriftyDAgger, Hoque et al., 2021 (arXiv:2109.08273).
    surprise  The robot decides, by the loss of its own plan: the denoising loss of a diffusion
              policy, or minus the log density of BC. Diff-DAgger, Lee et al., 2024
              (arXiv:2410.14868).

All thresholds except that of `beta` are quantiles of the scores in states that the learner reached
alone in the same round. They are chosen so that the expert takes over about the share `budget` of
the blocks (ThriftyDAgger, section 4.4). Diff-DAgger takes a quantile over the demonstrations
instead; here all gates share a budget, so that they can be compared.
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
    """What a gate may use to score the plans of N robots."""

    train: Any  # the learner's TrainState
    risk: Any  # the TrainState of the learnt risk, or ()
    chunk: types.Chunk  # the last observations and the learner's plan
    extras: dict[str, jax.Array]  # what the learner's policy returns besides its action
    suggestion: jax.Array  # [N, A], the action that the expert would take now


class Gate(NamedTuple):
    """A way to decide who acts next.

    score(seen, key) -> [N, S].
    threshold(scores [..., S], reached [...], budget, round) -> [S]; `reached` says where an episode
        was still running.
    num_kinds: S.
    uses_expert: whether the scores need the expert's suggestion.
    labels_all: whether any visited state may be labelled, or only those where the expert took over.
    """

    score: Callable[[Seen, types.Key], jax.Array]
    threshold: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    num_kinds: int = 1
    uses_expert: bool = False
    labels_all: bool = False


def schedule(name: str, beta: float, num_rounds: int) -> Callable[[jax.Array], jax.Array]:
    """Builds the function from a round 0, 1, ... to its beta.

    Args:
      name: 'constant'; 'linear', from beta to 0; or 'exponential', beta^(round + 1).

    Raises:
      ValueError: the schedule is unknown, or beta is outside [0, 1].
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
    """The gate of DAgger: the expert takes a block over with the probability chance(round)."""

    def score(seen, key):
        return jax.random.uniform(key, (len(seen.chunk.action), 1))

    return Gate(score, lambda scores, reached, budget, r: 1.0 - chance(r)[None], labels_all=True)


def expert(first: int) -> Gate:
    """The gate that scores the RMS distance of the next planned action to the expert's.

    Where an action is one of M choices, two are the same or not. So chance decides among states of
    the same score: a threshold can then cut off any share of them.

    Args:
      first: the row of the chunk that holds the next action.
    """

    def score(seen, key):
        planned = seen.chunk.action[:, first]
        if jnp.issubdtype(planned.dtype, jnp.integer):
            differs = jnp.any(planned != seen.suggestion, axis=-1, keepdims=True)
            return differs + 0.5 * jax.random.uniform(key, differs.shape)
        error = planned - seen.suggestion
        return jnp.sqrt(jnp.mean(error**2, axis=-1, keepdims=True))

    return Gate(score, within_budget, uses_expert=True)


def thrifty(predict: Callable[[Any, types.Chunk], jax.Array]) -> Gate:
    """The gate that scores novelty and risk.

    Args:
      predict: (the risk's TrainState, Chunk) -> [N], probabilities of failure.
    """

    def score(seen, key):
        del key
        novelty = jnp.sqrt(seen.extras['disagreement'])
        return jnp.stack([novelty, predict(seen.risk, seen.chunk)], axis=-1)

    return Gate(score, within_budget, num_kinds=2)


def surprise(agent: types.ScoringAgent) -> Gate:
    """The gate that scores the agent's loss of its own plan."""

    def score(seen, key):
        return agent.surprise(seen.train, seen.chunk, key)[:, None]

    return Gate(score, within_budget)


def within_budget(scores, reached, budget, r) -> jax.Array:
    """Thresholds [S] that the share `budget` of reached blocks exceeds, split among the kinds."""
    del r
    num_kinds = scores.shape[-1]
    q = 1.0 - jnp.minimum(budget, 1.0) / num_kinds
    kinds = jnp.moveaxis(scores, -1, 0)
    return jax.vmap(lambda x: statistics.masked_quantile(x, reached, q))(kinds)


def predictive(scores: jax.Array, reached: jax.Array, failed: jax.Array) -> jax.Array:
    """AUROC [S] of the scores as predictors of which episodes will fail.

    It compares episodes at the same block, for episodes in which the learner acted alone.

    Args:
      scores: [B, N, S], at the start of each block.
      reached: [B, N] bool, where the episode still ran.
      failed: [N] bool.
    """
    fails = jnp.broadcast_to(failed, reached.shape)
    return jax.vmap(lambda x: statistics.auroc(x, fails, reached), in_axes=2)(scores)
