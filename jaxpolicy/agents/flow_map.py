"""Flow maps: jump along a flow in one step or a few, by its average velocity.

The path is that of rectified flow, x_t = t x_0 + (1 - t) eps, with time 0 at noise and 1 at data.
The network u(x, t, r) learns the average velocity from t to r, so that

    x_r = x_t + (r - t) u(x_t, t, r),

and one step from noise makes a sample. At r = t, u is the flow's velocity, and a share of each
batch learns that: u(x_t, t, t) = x_0 - eps. For r > t there are three losses; sg(.) is their
target, through which no gradient flows:

    mean_flow               u = sg(v + (r - t) du/dt), where du/dt is the derivative along
                            v = x_0 - eps and takes one JVP. Geng et al., 2025 (arXiv:2505.13447),
                            equation 6 with their time reversed, and their adaptive weight.
    shortcut                u(x, t, t + 2 d) = sg(the mean velocity of two jumps of d with the EMA
                            weights). Frans et al., 2024 (arXiv:2410.12557), equation 5.
    consistency_trajectory  u = sg(the mean velocity of a way from x_t to r: a teacher's flow goes a
                            little further, and the EMA weights jump from there to r). Kim et al.,
                            2023 (arXiv:2310.02279), equation 5; Prasad et al., 2024 (Consistency
                            Policy, arXiv:2405.07503). There is no adversarial loss, and the error
                            is one of velocities. The student begins as the teacher,
                            u(x, t, r) = v(x, t).

Networks are told k = (K (1 - t), K (r - t)). With a teacher, K is 100, as for the other agents.
Without one it is 5: with 100 the fastest sines of k dominate du/dt, and mean_flow learns a Gaussian
of standard deviation 0.3 as one of 0.96. Padded steps do not count; EMA weights act.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Literal

import chex
import jax
import jax.numpy as jnp

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import denoiser as chunks
from jaxpolicy.diffusion import objectives
from jaxpolicy.ops import losses

Average = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # u(x, t, r)
K_MAX = 5.0  # without a teacher
LOSSES = ('mean_flow', 'shortcut', 'consistency_trajectory')
# The papers have .75 (mean flow) and .875 (shortcut). On detour, after 20 epochs, mean flow does
# worse with .75 than with .25, and shortcut better (docs/diffusion.md).
FLOW_SHARES = {'mean_flow': 0.25, 'shortcut': 0.75, 'consistency_trajectory': 0.25}
LEARNS_FROM = 'chunks'  # of demonstrations
ACTING = ('action_horizon', 'act_weights', 'num_sample_steps', 'clip')


_NO_WEIGHT = ranges.Idle('loss', ('shortcut', 'consistency_trajectory'))
_NO_TEACHER = ranges.Idle('loss', ('mean_flow', 'shortcut'))


@dataclasses.dataclass(frozen=True)
class Config(chunks.Config):
    loss: Literal['mean_flow', 'shortcut', 'consistency_trajectory'] = 'mean_flow'
    flow_share: ranges.Share = 0.0  # of a batch that learns the velocity, r = t; 0: FLOW_SHARES
    times: Literal['uniform', 'logit_normal'] = 'uniform'  # how times are drawn
    weight_power: Annotated[ranges.NonNegative, _NO_WEIGHT] = 0.0  # (error^2 + 1e-3)^-power; 0: 1
    teacher_step: Annotated[ranges.Part, _NO_TEACHER] = 0.1  # how far the teacher goes, in time,
    teacher_solver_steps: Annotated[ranges.Size, _NO_TEACHER] = 1  # and in how many steps
    num_sample_steps: ranges.Size = 1  # jumps from noise to data
    clip: ranges.Positive = 1.0  # limit of the chunk, in normalised actions


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are `Chunk`s.

    With the loss 'consistency_trajectory', params['teacher'] are the weights of a `diffusion` agent
    of objective 'flow' with the same network. They are random until `teach` sets them.

    Raises:
      ValueError: an unknown network or loss, numbers out of range, or discrete actions.
    """
    chunks.check_actions(spec)
    _validate(config)
    action_dim = spec.action.shape[0]
    net, distilled = chunks.make(config, spec), config.loss == 'consistency_trajectory'
    k_max = objectives.K_MAX if distilled else K_MAX
    txs = {'denoiser': chunks.optimizer(config)}

    def init(key):
        params = {'denoiser': net.init(key, num_levels=2)}
        teacher = {'teacher': net.init(jax.random.fold_in(key, 1))} if distilled else {}
        return train_state.create(params | teacher, txs, target_params=params)

    def loss_fn(params, state, batch, key):
        times_key, eps_key = jax.random.split(key)
        t, r = draw_times(times_key, len(batch.action), share_of(config), config.times)
        eps = jax.random.normal(eps_key, batch.action.shape)
        x, velocity = t * batch.action + (1.0 - t) * eps, batch.action - eps
        condition = net.see(batch.obs)
        both = params, state.target_params['denoiser']
        u, ema = (average(net, p, condition, k_max) for p in both)
        if config.loss == 'mean_flow':
            found, target = mean_flow(u, x, t, r, velocity)
            weight = adaptive_weight(found - target, batch.mask, config.weight_power)
            return losses.chunk_mse(found, target, batch.mask, weight)
        if config.loss == 'shortcut':
            target = shortcut(ema, x, t, r, velocity)
        else:
            teacher = teacher_velocity(net, state.params['teacher'], condition)
            longest, num_steps = config.teacher_step, config.teacher_solver_steps
            target = consistency_trajectory(ema, teacher, x, t, r, longest, num_steps)
        return losses.chunk_mse(u(x, t, r), jax.lax.stop_gradient(target), batch.mask)

    def update(state, batch, key):
        chex.assert_shape(batch.action, (None, config.pred_horizon, action_dim))
        grad = jax.grad(loss_fn, has_aux=True)
        grads, metrics = grad(state.params['denoiser'], state, batch, key)
        state = train_state.apply_gradients_ema(state, txs, {'denoiser': grads}, config.ema_power)
        return state, metrics

    def policy(state, deterministic=False):
        del deterministic  # both kinds of policy draw a sample

        def act(obs, key):
            condition = net.see(obs)
            u = average(net, net.acting(state), condition, k_max)
            eps = jax.random.normal(key, (len(condition), config.pred_horizon, action_dim))
            return jnp.clip(sample(u, eps, config.num_sample_steps), -config.clip, config.clip), {}

        return types.memoryless(act)

    return types.Agent(init, update, policy)


def num_evaluations(config: Config) -> int:
    """How often the network is called for one plan."""
    return config.num_sample_steps


def average(net, params, condition, k_max: float) -> Average:
    """The average velocity u that the network with these weights gives."""

    def u(x, t, r):  # times [B, 1, 1]
        k = k_max * jnp.concatenate([1.0 - t, r - t], axis=-1)[:, 0]  # [B, 2]
        return net.apply(params, x, k, condition)

    return u


def mean_flow(u: Average, x, t, r, velocity) -> tuple[jax.Array, jax.Array]:
    """u(x, t, r), and its target v + (r - t) du/dt, through which no gradient flows."""
    tangents = (velocity, jnp.ones_like(t), jnp.zeros_like(r))
    found, derivative = jax.jvp(u, (x, t, r), tangents)
    return found, jax.lax.stop_gradient(velocity + (r - t) * derivative)


def adaptive_weight(error: jax.Array, mask: jax.Array, power: float) -> jax.Array:
    """The weight (error^2 + 1e-3)^-power of each row, [B]; error [B, Tp, A], mask [B, Tp]."""
    square = jnp.mean(error**2, axis=-1) * mask
    square = jnp.sum(square, axis=-1) / jnp.maximum(jnp.sum(mask, axis=-1), 1.0)
    return jax.lax.stop_gradient((square + 1e-3) ** -power)


def shortcut(ema: Average, x, t, r, velocity) -> jax.Array:
    """The target of u: the mean velocity of two half jumps, and at r = t the flow's velocity."""
    middle = 0.5 * (t + r)
    first = ema(x, t, middle)
    second = ema(x + (middle - t) * first, middle, r)
    return jnp.where(r > t, 0.5 * (first + second), velocity)


def consistency_trajectory(
    ema: Average, teacher, x, t, r, longest: float, num_steps: int = 1
) -> jax.Array:
    """The target of u: the mean velocity along the teacher's flow and a jump from there to r."""
    length = jnp.minimum(r - t, longest)
    step = length / num_steps
    velocity = first = teacher(x, t)
    y = x
    for i in range(num_steps):  # the midpoint method
        now = t + i * step
        first = teacher(y, now) if i else first
        y = y + step * teacher(y + 0.5 * step * first, now + 0.5 * step)
    if longest < 1.0:  # else the teacher has gone all the way
        y = y + (r - t - length) * ema(y, t + length, r)
    return jnp.where(r > t, (y - x) / jnp.maximum(r - t, 1e-6), velocity)


def teacher_velocity(net, params, condition) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The velocity field that a `diffusion` agent of objective 'flow' has learnt."""
    return lambda x, t: net.apply(params, x, objectives.K_MAX * (1.0 - t).reshape(-1), condition)


def sample(u: Average, eps: jax.Array, num_steps: int) -> jax.Array:
    """Turns noise `eps` [B, Tp, A] into chunks in `num_steps` equal jumps."""
    times = jnp.linspace(0.0, 1.0, num_steps + 1)

    def jump(x, times):
        t, r = (jnp.full((len(x), 1, 1), time) for time in times)
        return x + (r - t) * u(x, t, r), None

    return jax.lax.scan(jump, eps, (times[:-1], times[1:]))[0]


def share_of(config: Config) -> float:
    """The share of a batch that learns the velocity."""
    return config.flow_share or FLOW_SHARES[config.loss]


def draw_times(
    key: types.Key, num: int, flow_share: float, times: str = 'uniform'
) -> tuple[jax.Array, jax.Array]:
    """Draws times t <= r, [num, 1, 1] each: two numbers in order, then changed.

    In half of the rows t becomes 0, and in half r becomes 1, since acting in few jumps begins and
    ends there. Then, in `flow_share` of the rows, both become one number. With `times` =
    'logit_normal', the logits of all these numbers are from N(0.4, 1), as in Geng et al. with their
    time reversed.
    """
    times_key, ends_key, share_key, flow_key = jax.random.split(key, 4)

    def draw(key, shape):
        if times == 'logit_normal':
            return jax.nn.sigmoid(0.4 + jax.random.normal(key, shape))
        return jax.random.uniform(key, shape)

    both = jnp.sort(draw(times_key, (2, num, 1, 1)), axis=0)
    at_end = jax.random.bernoulli(ends_key, 0.5, both.shape)
    t, r = jnp.where(at_end, jnp.asarray([0.0, 1.0]).reshape(2, 1, 1, 1), both)
    flow = jax.random.bernoulli(share_key, flow_share, r.shape)
    anywhere = draw(flow_key, t.shape)
    return jnp.where(flow, anywhere, t), jnp.where(flow, anywhere, r)


def teach(state: train_state.TrainState, teacher: types.PyTree) -> train_state.TrainState:
    """The state with a trained teacher in it, and a student that begins as the teacher.

    Raises:
      ValueError: the teacher's weights have other names or shapes than the student's network.
    """
    ours = jax.tree_util.tree_leaves_with_path(state.params['teacher'])
    theirs = dict(jax.tree_util.tree_leaves_with_path(teacher))
    for path, leaf in ours:
        found = theirs.pop(path, None)
        if found is None or found.shape != leaf.shape:
            shape = None if found is None else found.shape
            name = jax.tree_util.keystr(path)
            raise ValueError(f"the teacher's {name}: expected {leaf.shape}, found {shape}")
    if theirs:
        raise ValueError(
            f"the teacher's network: unknown {jax.tree_util.keystr(next(iter(theirs)))}"
        )
    trained = dict(jax.tree_util.tree_leaves_with_path(teacher))

    def begin(student):  # weights of the second level, which no teacher has, stay as they are
        # The student gets copies, since buffers that are donated must not be shared.
        return jax.tree_util.tree_map_with_path(
            lambda path, x: jnp.copy(trained.get(path, x)), student
        )

    return state.replace(
        params={'denoiser': begin(state.params['denoiser']), 'teacher': teacher},
        target_params={'denoiser': begin(state.target_params['denoiser'])},
    )


def _validate(config: Config) -> None:
    if config.loss not in LOSSES:
        raise ValueError(f'agent.loss: expected one of {LOSSES}, found {config.loss!r}')
    if config.times not in ('uniform', 'logit_normal'):
        raise ValueError(
            f"agent.times: expected 'uniform' or 'logit_normal', found {config.times!r}"
        )
    if not 0.0 <= config.flow_share <= 1.0:
        raise ValueError(f'agent.flow_share: expected 0 to 1, found {config.flow_share}')
    if not 0.0 < config.teacher_step <= 1.0:
        raise ValueError(f'agent.teacher_step: expected 0 to 1, found {config.teacher_step}')
    for key in ('num_sample_steps', 'teacher_solver_steps'):
        if (found := getattr(config, key)) < 1:
            raise ValueError(f'agent.{key}: expected at least 1, found {found}')
