"""The agents by name.

Each module has `Config`, `make(config, spec) -> Agent` and `ACTING`, the fields of its Config that
change how a trained agent acts and nothing else.
"""

from jaxpolicy.agents import (
    a2c,
    bc,
    diffusion_policy,
    dqn,
    drifting,
    fast_td3,
    flow_map,
    iql,
    mip,
    ppo,
    ppo_recurrent,
    reinforce,
    sac,
    td3,
)

AGENTS = {
    'a2c': a2c,
    'bc': bc,
    'diffusion': diffusion_policy,
    'dqn': dqn,
    'drifting': drifting,
    'fast_td3': fast_td3,
    'flow_map': flow_map,
    'iql': iql,
    'mip': mip,
    'ppo': ppo,
    'ppo_recurrent': ppo_recurrent,
    'reinforce': reinforce,
    'sac': sac,
    'td3': td3,
}
