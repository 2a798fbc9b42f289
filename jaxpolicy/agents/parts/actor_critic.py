"""Actor and critic of the plain policy-gradient agents, for either kind of action.

Where an action is numbers in [-1, 1], the policy is a Gaussian, as in `agents.ppo`; where it is one
of M choices, the policy is a categorical distribution over one-hot actions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpolicy import types
from jaxpolicy.nets import encoders, heads, mlp
from jaxpolicy.ops import distributions

Distribution = distributions.Gaussian | distributions.Categorical


class ActorCritic(NamedTuple):
    """Two networks as functions of their parameters; observations may have any leading axes.

    init(key) -> {'actor': params, 'critic': params}
    distribution(actor params, obs) -> distribution of actions [...]
    value(critic params, obs) -> [...]
    """

    init: Callable[[types.Key], dict[str, types.PyTree]]
    distribution: Callable[[types.PyTree, types.PyTree], Distribution]
    value: Callable[[types.PyTree, types.PyTree], jax.Array]

    def policy(self, state, deterministic=False) -> types.Policy:
        """`types.Agent.policy`; its extras are log_prob and the distribution's parameters."""

        def act(obs, key):
            dist = self.distribution(state.params['actor'], obs)
            action = jnp.where(deterministic, dist.mode(), dist.sample(key))
            return action, {'log_prob': dist.log_prob(action), **dist._asdict()}

        return types.memoryless(act)


def make(config: Any, spec: types.Spec) -> ActorCritic:
    """Builds both from the config's actor_obs, critic_obs, hidden, activation and init_std.

    Raises:
      ValueError: an unknown activation or key of an observation.
    """
    mlp.check_activation(config.activation)
    seen = views(config, spec)
    net, as_distribution = _actor(config, spec)
    actor = encoders.Encoded(net, seen['actor'])
    critic = encoders.Encoded(mlp.MLP(config.hidden, 1, config.activation), seen['critic'])

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        return {'actor': actor.init(actor_key), 'critic': critic.init(critic_key)}

    def distribution(params, obs):
        return as_distribution(actor.apply(params, obs))

    def value(params, obs):
        return critic.apply(params, obs)[..., 0]

    return ActorCritic(init, distribution, value)


def views(config: Any, spec: types.Spec) -> dict[str, types.PyTree]:
    """The specs of what actor and critic see, from the config's actor_obs and critic_obs.

    Raises:
      ValueError: an unknown key of an observation.
    """
    return {
        'actor': encoders.view(spec.obs, 'actor_obs', config.actor_obs),
        'critic': encoders.view(spec.obs, 'critic_obs', config.critic_obs),
    }


def _actor(config: Any, spec: types.Spec) -> tuple[Any, Callable[[Any], Distribution]]:
    """The actor's network, and what turns its output into a distribution, chosen only here."""
    sizes, num = config.hidden, spec.action.shape[0]
    if types.is_discrete(spec):
        net = mlp.MLP(sizes, num, config.activation, output_scale=0.01)
        return net, distributions.Categorical
    net = heads.GaussianActor(sizes, num, config.activation, config.init_std)
    return net, lambda output: distributions.Gaussian(*output)
