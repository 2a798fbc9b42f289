"""Ordered coverage: how much of a demonstration was done, in its order, at whatever speed.

A demonstration is frames d_1 ... d_M. P_{t,j} is the probability that the state at step t is at
frame j, and C_{t,j} is the probability that frames 1 ... j were visited in this order up to then:

    P_{t,j} = exp(-|s_t - d_j| / temperature)
    C_{t,j} = max(C_{t-1,j}, C_{t,j-1} P_{t,j}),  C_{t,0} = 1, C_{0,j} = 0     for j < M
    C_{t,M} = C_{t,M-1} P_{t,M}                                               the reward of step t

The last frame has no memory: a robot that has done it all is rewarded only while it stays there.
One step may visit several frames. For j < M, C_{t,j} is the largest product of P_{t_i,i},
i = 1 ... j, over all t_1 <= ... <= t_j <= t.

Source: Huey et al., 2025 (ORCA, arXiv:2502.05397); the reward is that of their published code. They
measure |s - d| between features of pictures; here it is the distance between scaled observations.
"""

import chex
import jax
import jax.numpy as jnp


def visits(obs: jax.Array, frames: jax.Array, scale: jax.Array, temperature: float) -> jax.Array:
    """P: how near an observation is to each frame.

    Args:
      obs: [..., D].
      frames: [M, D].
      scale: [D], what counts as far in each column, in its units.
      temperature: the distance at which P is 1 / e. A distance is the root mean square over the
        columns, in units of `scale`.

    Returns:
      [..., M] in (0, 1].
    """
    chex.assert_rank([frames, scale], [2, 1])
    gap = (obs[..., None, :] - frames) / scale
    return jnp.exp(-jnp.sqrt(jnp.mean(gap**2, axis=-1)) / temperature)


def cover(before: jax.Array, prob: jax.Array) -> jax.Array:
    """One step: C_t from C_{t-1} and P_t, all [..., M]; `before` is zeros at the first step.

    From frame to frame C changes by a map x -> max(a, b x). Two such maps after one another are
    again such a map, so that a scan needs about log2(M) operations in sequence, not M.
    """
    chex.assert_equal_shape([before, prob])

    def compose(first, then):
        (a, b), (c, d) = first, then
        return jnp.maximum(c, d * a), b * d

    least = before.at[..., -1].set(0.0)
    reached, along = jax.lax.associative_scan(compose, (least, prob), axis=-1)
    return jnp.maximum(reached, along)


def ordered(prob: jax.Array) -> jax.Array:
    """C of a whole episode, [T, ..., M], from P [T, ..., M]; its last column is the rewards."""

    def step(before, prob):
        after = cover(before, prob)
        return after, after

    return jax.lax.scan(step, jnp.zeros_like(prob[0]), prob)[1]
