"""How an agent acts at the start of episodes, as one function."""


def act_of(agent):
    """act(state, obs, key, deterministic=False) -> (action, extras)."""

    def act(state, obs, key, deterministic=False):
        policy = agent.policy(state, deterministic)
        _, action, extras = policy.act(policy.init(obs), obs, key)
        return action, extras

    return act
