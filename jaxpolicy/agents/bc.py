"""Behavioural cloning of action chunks, with three heads for numbers and one for choices.

A network predicts the Tp actions around now from the last To observations. Over demonstrations, it
minimises

    mse       || a - f(o) ||^2
    gaussian  -log N(a; mu(o), sigma(o))
    mixture   -log sum_m w_m(o) N(a; mu_m(o), sigma_m(o))       (Bishop, 1994)
    categorical  -log p(a; o), where each action of the chunk is one of M choices

The mixture is over whole chunks, so that one component is one way of doing the task: a mixture per
time step could change its mind in the middle of a chunk. The choices of a chunk are independent
given o, each with its own probabilities. Padded steps do not count. A deterministic policy returns
the mean; with a mixture, that of the likeliest component; of choices, the likeliest at each step.

Sources: Pomerleau, 1989; Mandlekar et al., 2021 (robomimic, arXiv:2108.03298) for the mixture head;
Zhao et al., 2023 (ACT, arXiv:2304.13705) for chunks.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import optimizers, ranges, train_state, types
from jaxpolicy.nets import encoders, heads, mlp
from jaxpolicy.ops import distributions, losses

HEADS = ('mse', 'gaussian', 'mixture')  # for actions that are numbers
DISCRETE_HEADS = ('categorical',)
LEARNS_FROM = 'chunks'  # of demonstrations
ACTING = ('action_horizon', 'act_weights')


_NO_STD = ranges.Idle('head', ('mse', 'categorical'))
_NO_MIXTURE = ranges.Idle('head', ('mse', 'gaussian', 'categorical'))


@dataclasses.dataclass(frozen=True)
class Config:
    head: Literal['mse', 'gaussian', 'mixture', 'categorical'] = 'mse'
    num_components: Annotated[ranges.Size, _NO_MIXTURE] = 8  # of the mixture
    min_std: Annotated[ranges.Positive, _NO_STD] = 0.01  # in normalised actions
    obs_horizon: ranges.Size = 2  # To
    pred_horizon: ranges.Size = 16  # Tp
    action_horizon: ranges.Size = 8  # Ta, executed before the next plan
    width: ranges.Size = 512  # of the residual MLP
    num_blocks: ranges.Few = 3
    hidden: ranges.Counts = ()  # of a plain MLP in its place, such as the actors of ppo and a2c are
    activation: Annotated[ranges.Activation, ranges.Idle('hidden', ((),))] = 'elu'  # of that MLP
    learning_rate: ranges.Positive = 3e-4
    weight_decay: ranges.NonNegative = 1e-4
    warmup_updates: ranges.CountOrZero = 500
    decay_updates: ranges.CountOrZero = 0  # of the cosine; 0: an offline run fills it in
    max_grad_norm: ranges.NonNegative = 1.0  # 0: no limit
    ema_power: ranges.NonNegative = 0.75
    act_weights: Literal['ema', 'last'] = 'ema'  # which weights act: averaged, or as they are


def make(config: Config, spec: types.Spec) -> types.Agent | types.ScoringAgent:
    """Builds the agent; its batches are `Chunk`s, which it can score if its head has a likelihood.

    Raises:
      ValueError: an unknown head, or one for the other kind of actions.
    """
    discrete = types.is_discrete(spec)
    if config.head not in (known := DISCRETE_HEADS if discrete else HEADS):
        kind = 'discrete' if discrete else 'continuous'
        raise ValueError(
            f'agent.head: expected one of {known} for {kind} actions, found {config.head!r}'
        )
    action_dim = spec.action.shape[0]
    chunk_dim = config.pred_horizon * action_dim
    name, net = network(config, chunk_dim)
    actor = encoders.Encoded(net, spec.obs, config.obs_horizon)
    txs = {name: _optimizer(config)}

    def init(key):
        params = {name: actor.init(key)}
        return train_state.create(params, txs, target_params=params)

    def distribution(params, obs):
        return chunk_distribution(config, actor.apply(params, obs), chunk_dim)

    def loss_fn(params, batch):
        dist = distribution(params, batch.obs)
        if isinstance(dist, jax.Array):
            return losses.chunk_mse(dist.reshape(batch.action.shape), batch.action, batch.mask)
        return chunk_nll(dist, batch.action, batch.mask)

    def update(state, batch, key):
        del key  # nothing is random
        chex.assert_shape(batch.action, (None, config.pred_horizon, action_dim))
        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params[name], batch)
        state = train_state.apply_gradients_ema(state, txs, {name: grads}, config.ema_power)
        return state, metrics

    def policy(state, deterministic=False):
        def act(obs, key):
            dist = distribution(train_state.weights(state, name, config.act_weights), obs)
            if isinstance(dist, jax.Array):
                chunk = dist
            else:
                chunk = jnp.where(deterministic, dist.mode(), dist.sample(key))
            return chunk.reshape(-1, config.pred_horizon, action_dim), {}

        return types.memoryless(act)

    def surprise(state, chunk, key):
        del key  # nothing is random
        dist = distribution(state.target_params[name], chunk.obs)
        nll = jax.vmap(lambda *row: chunk_nll(*jax.tree.map(lambda x: x[None], row))[0])
        return nll(dist, chunk.action, chunk.mask)

    if config.head == 'mse':
        return types.Agent(init, update, policy)
    return types.ScoringAgent(init, update, policy, surprise)


def _optimizer(config: Config) -> Any:
    return optimizers.adamw_cosine(
        config.learning_rate,
        config.weight_decay,
        config.warmup_updates,
        config.decay_updates,
        config.max_grad_norm,
    )


def network(config: Config, chunk_dim: int) -> tuple[str, Any]:
    """The name of the network and the network, for chunks of `chunk_dim` = Tp * A numbers.

    With `hidden` it is the actor of other agents, under its name, so that they can begin with it.

    Raises:
      ValueError: an unknown activation, or a head that such an actor does not have.
    """
    if not config.hidden:
        net = mlp.ResidualMLP(config.width, config.num_blocks, output_dim(config, chunk_dim))
        return 'policy', net
    mlp.check_activation(config.activation)
    if config.head == 'categorical':
        return 'actor', mlp.MLP(config.hidden, chunk_dim, config.activation, output_scale=0.01)
    if config.head != 'gaussian':
        raise ValueError(
            f"agent.head: expected 'gaussian' or 'categorical' with agent.hidden, found "
            f'{config.head!r}'
        )
    return 'actor', heads.GaussianActor(config.hidden, chunk_dim, config.activation, 1.0)


def output_dim(config: Config, chunk_dim: int) -> int:
    """How many outputs the network needs for chunks of `chunk_dim` = Tp * A numbers."""
    return {
        'mse': chunk_dim,
        'categorical': chunk_dim,
        'gaussian': 2 * chunk_dim,
        'mixture': config.num_components * (1 + 2 * chunk_dim),
    }[config.head]


def chunk_distribution(
    config: Config, output: Any, chunk_dim: int
) -> jax.Array | distributions.Gaussian | distributions.Mixture | distributions.Categorical:
    """Reads the network's output [B, output_dim] as a chunk [B, Tp * A] or a distribution of it.

    That of choices is over [B, Tp, M].
    """
    if config.head == 'mse':
        return output
    if config.head == 'categorical':
        shape = (-1, config.pred_horizon, chunk_dim // config.pred_horizon)
        return distributions.Categorical(output.reshape(shape))
    if config.hidden:
        mean, log_std = output
        return distributions.Gaussian(mean, jnp.maximum(log_std, math.log(config.min_std)))
    if config.head == 'gaussian':
        mean, raw = jnp.split(output, 2, axis=-1)
        return distributions.Gaussian(mean, _log_std(raw, config.min_std))
    logits, rest = jnp.split(output, [config.num_components], axis=-1)
    rest = rest.reshape(-1, config.num_components, 2 * chunk_dim)
    mean, raw = jnp.split(rest, 2, axis=-1)  # [B, M, Tp * A] each
    return distributions.Mixture(logits, mean, _log_std(raw, config.min_std))


def _log_std(raw: jax.Array, min_std: float) -> jax.Array:
    return jnp.log(jax.nn.softplus(raw) + min_std)


def chunk_nll(
    dist: distributions.Gaussian | distributions.Mixture | distributions.Categorical,
    action: jax.Array,
    mask: jax.Array,
) -> losses.Loss:
    """-log p(chunk) per coordinate that is not padding; action [B, Tp, A], mask [B, Tp].

    Of choices it is per step: the cross-entropy.
    """
    if isinstance(dist, distributions.Categorical):
        loss = -losses.masked_mean(dist.log_prob(action), mask)
        right = jnp.sum(dist.mode() * action, axis=-1, dtype=jnp.float32)
        return loss, {'nll': loss, 'accuracy': losses.masked_mean(right, mask)}
    batch, _, action_dim = action.shape
    flat_mask = jnp.repeat(mask.astype(jnp.float32), action_dim, axis=-1)  # [B, Tp * A]
    if isinstance(dist, distributions.Gaussian):
        dist = distributions.Mixture(
            jnp.zeros((batch, 1)), dist.mean[:, None], dist.log_std[:, None]
        )
    log_prob = dist.log_prob(action.reshape(batch, -1), flat_mask)
    loss = -jnp.sum(log_prob) / jnp.maximum(jnp.sum(flat_mask), 1.0)
    error = (dist.mode() - action.reshape(batch, -1)) ** 2
    return loss, {'nll': loss, 'mse': losses.masked_mean(error, flat_mask)}
