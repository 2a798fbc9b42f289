"""Actor and critic of the plain policy-gradient agents, for either kind of action.

Numbers in [-1, 1] have a Gaussian, as in `agents.ppo`; one of M choices has a categorical
distribution over one-hot actions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.agents import ppo
from jaxpolicy.nets import embed, heads, mlp
from jaxpolicy.ops import distributions

Distribution = distributions.Gaussian | distributions.Categorical


class ActorCritic(NamedTuple):
    """Two networks as functions of their parameters; observations may have any leading axes.

    init(key) -> {'actor': params, 'critic': params}
    policy(actor params, obs) -> distribution of actions [...]
    value(critic params, obs) -> [...]
    """

    init: Callable[[types.Key], dict[str, types.PyTree]]
    policy: Callable[[types.PyTree, types.PyTree], Distribution]
    value: Callable[[types.PyTree, types.PyTree], jax.Array]

    def act(self, state, obs, key, deterministic=False):
        """`types.Agent.act`; extras: log_prob and the parameters of the distribution."""
        dist = self.policy(state.params['actor'], obs)
        action = jnp.where(deterministic, dist.mode(), dist.sample(key))
        return action, {'log_prob': dist.log_prob(action), **dist._asdict()}


def make(config: Any, spec: types.Spec) -> ActorCritic:
    """Builds both from the fields actor_obs, critic_obs, hidden, activation and init_std.

    Raises:
      ValueError: an unknown activation or key of an observation.
    """
    ppo.check_activation(config.activation)
    seen = ppo.views(config, spec)
    actor, distribution = _actor(config, spec)
    critic = mlp.MLP(config.hidden, 1, config.activation)

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        x = {name: jnp.zeros((1, embed.obs_dim(part))) for name, part in seen.items()}
        actor_params = actor.init(actor_key, x['actor'])
        return {'actor': actor_params, 'critic': critic.init(critic_key, x['critic'])}

    def policy(params, obs):
        return distribution(actor.apply(params, embed.encode(obs, seen['actor'])))

    def value(params, obs):
        output: Any = critic.apply(params, embed.encode(obs, seen['critic']))
        return output[..., 0]

    return ActorCritic(init, policy, value)


def _actor(config: Any, spec: types.Spec) -> tuple[Any, Callable[[Any], Distribution]]:
    """The network, and its output as a distribution: the only place that chooses one."""
    sizes, num = config.hidden, spec.action.shape[0]
    if types.is_discrete(spec):
        net = mlp.MLP(sizes, num, config.activation, output_scale=0.01)
        return net, distributions.Categorical
    net = heads.GaussianActor(sizes, num, config.activation, config.init_std)
    return net, lambda output: distributions.Gaussian(*output)
