"""How likely an episode is to fail, from what is seen and what is planned.

Over episodes in which nobody intervened, a network r minimises

    - y log r(o, a) - (1 - y) log(1 - r(o, a)),

where o is the last observations, a the planned chunk and y whether the episode failed.

Source: ThriftyDAgger (Hoque et al., 2021, arXiv:2109.08273), section 4.2. It learns the probability
of success by temporal differences; here whole episodes are at hand, so their outcome is the target.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, ranges, train_state, types
from jaxpolicy.nets import encoders, mlp
from jaxpolicy.ops import losses, normalize


@dataclasses.dataclass(frozen=True)
class Config:
    width: ranges.Count = 128
    num_blocks: ranges.Count = 1
    learning_rate: ranges.Positive = 1e-3


class Outcomes(types.Chunk):
    """Chunks, and whether the episodes that they are from failed."""

    failed: jax.Array  # [B] bool
    weight: jax.Array  # [B], 1, or 0 for a chunk that does not count


class Risk(NamedTuple):
    """init(key) -> TrainState; update(state, Outcomes) -> state; predict(state, Chunk) -> [B]."""

    init: Callable[[types.Key], train_state.TrainState]
    update: Callable[[train_state.TrainState, Outcomes], train_state.TrainState]
    predict: Callable[[train_state.TrainState, types.Chunk], jax.Array]


def make(
    config: Config,
    spec: types.Spec,
    obs_horizon: int,
    pred_horizon: int,
    affine: normalize.Affine,
) -> Risk:
    """Builds the network for chunks of these horizons; `affine` normalises observations."""
    net = mlp.ResidualMLP(config.width, config.num_blocks, 1)
    txs = {'risk': optimizers.adamw_cosine(config.learning_rate, 0.0, 0, 0, 1.0)}

    def logit(params, chunk) -> jax.Array:
        obs = encoders.encode_history(normalize.apply(affine, chunk.obs), spec.obs)
        x = jnp.concatenate([obs, chunk.action.reshape(len(obs), -1)], axis=-1)
        return jnp.asarray(net.apply(params, x))[:, 0]

    def init(key):
        size = obs_horizon * encoders.size(spec.obs) + pred_horizon * spec.action.shape[0]
        return train_state.create({'risk': net.init(key, jnp.zeros((1, size)))}, txs)

    def loss_fn(params, batch):
        x = logit(params, batch)
        return losses.masked_mean(jnp.logaddexp(0.0, x) - batch.failed * x, batch.weight)

    def update(state, batch):
        grads = jax.grad(loss_fn)(state.params['risk'], batch)
        state = train_state.apply_gradients(state, txs, {'risk': grads})
        return state.replace(step=state.step + 1)

    def predict(state, chunk):
        return jax.nn.sigmoid(logit(state.params['risk'], chunk))

    return Risk(init, update, predict)
