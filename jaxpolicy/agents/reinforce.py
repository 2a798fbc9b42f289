"""REINFORCE with a learnt baseline: the policy gradient, from the returns of whole episodes.

From each rollout [T, N] of the current policy it takes one step down the gradient of each of

    -E[(G - b(s)) log pi(a | s)]   and   1/2 E[(b(s) - G)^2],   G = r_t + gamma r_{t+1} + ...,

where G is the return to go and b the baseline (the critic). The baseline may take more steps.

A return is known only if the episode ends within the rollout. All other steps do not count, and
neither do steps of an episode before one that is marked invalid (extras['valid'] = 0). So the last
steps of a rollout count if their episode ends soon, and do not count if it goes on: too short a
rollout shows the agent only the short episodes, and on a task where good episodes are long it
learns from the failures. Make rollout_length several episodes, or at least the env's episode_steps:
then this affects only its last episode_steps. The metric `known_fraction` is the share of steps
that count.

It bootstraps in one place: where time ran out the task would go on, and the baseline at the last
next_obs takes the place of the rewards that would have followed.

Known deviations from the book: one step on the mean over many episodes, not one after each step of
an episode; no factor gamma^t, which would all but ignore late steps; Adam, whose steps do not
depend on the scale of the rewards.

Sources: Williams, 1992 (Machine Learning 8); Sutton and Barto, 2018, section 13.4.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import optax

from jaxpolicy import ranges, train_state, types
from jaxpolicy.agents.parts import actor_critic
from jaxpolicy.ops import losses, returns

LEARNS_FROM = 'rollouts'  # of the current policy
ACTING = ()


@dataclasses.dataclass(frozen=True)
class Config:
    actor_obs: tuple[str, ...] = ()  # keys of a dict observation that the actor sees; (): all
    critic_obs: tuple[str, ...] = ()  # the same for the baseline, which only training needs
    hidden: ranges.Counts = (64, 64)  # of actor and baseline
    activation: ranges.Activation = 'tanh'
    init_std: ranges.Positive = 0.6  # of the policy, where actions are continuous
    reward_scale: float = 1.0  # multiplies the rewards that the agent learns from
    gamma: ranges.Share = 0.99
    learning_rate: ranges.Positive = 3e-3  # of the actor
    baseline_learning_rate: ranges.Positive = 3e-3
    num_baseline_steps: ranges.Few = 1  # gradient steps of the baseline on each rollout


def make(config: Config, spec: types.Spec) -> types.Agent:
    """Builds the agent; its batches are rollouts [T, N].

    Raises:
      ValueError: an unknown activation or key of an observation.
    """
    nets = actor_critic.make(config, spec)
    txs = {
        'actor': optax.adam(config.learning_rate),
        'critic': optax.adam(config.baseline_learning_rate),
    }

    def init(key):
        return train_state.create(nets.init(key), txs)

    def actor_loss(params, batch, advantage, known):
        dist = nets.distribution(params, batch.obs)
        loss, metrics = losses.policy_gradient(dist.log_prob(batch.action), advantage, known)
        entropy = losses.masked_mean(dist.entropy(), batch.extras['valid'])
        return loss, metrics | {'entropy': entropy}

    def baseline_loss(params, batch, target, known):
        return losses.value_mse(nets.value(params, batch.obs), target, known)

    def update(state, batch, key):
        del key
        chex.assert_equal_shape_prefix([batch.reward, batch.action, batch.extras['valid']], 2)
        batch = losses.silence(batch)
        params = state.params['critic']
        baseline, next_value = (nets.value(params, x) for x in (batch.obs, batch.next_obs))
        target, known = returns_to_go(config, batch, next_value)
        grads, metrics = jax.grad(actor_loss, has_aux=True)(
            state.params['actor'], batch, target - baseline, known
        )
        state = train_state.apply_gradients(state, txs, {'actor': grads})

        def baseline_step(state, _):
            grads, metrics = jax.grad(baseline_loss, has_aux=True)(
                state.params['critic'], batch, target, known
            )
            return train_state.apply_gradients(state, txs, {'critic': grads}), metrics

        state, each = jax.lax.scan(baseline_step, state, length=config.num_baseline_steps)
        metrics |= jax.tree.map(lambda x: x[0], each)  # of the baseline that was subtracted
        metrics |= {
            'value': losses.masked_mean(baseline, known),
            'known_fraction': jnp.mean(known),
        }
        return state.replace(step=state.step + config.num_baseline_steps), metrics

    return types.Agent(init, update, nets.policy)


def returns_to_go(
    config: Config, batch: types.Transition, next_value: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """G [T, N] and where it is known [T, N]; `next_value` is the baseline of next_obs."""
    reward = config.reward_scale * batch.reward
    ends = (batch.termination.astype(reward.dtype), batch.truncation.astype(reward.dtype))
    return returns.monte_carlo(reward, next_value, *ends, config.gamma, batch.extras['valid'])
