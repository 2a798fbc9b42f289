"""The agents by name.

Each module has `Config`, `make(config, spec) -> Agent` and `ACTING`, the fields of its Config that
change how a trained agent acts and nothing else.
"""

from jaxpolicy.agents import bc, diffusion_policy, drifting, flow_map, mip, ppo, ppo_recurrent

AGENTS = {
    'bc': bc,
    'diffusion': diffusion_policy,
    'drifting': drifting,
    'flow_map': flow_map,
    'mip': mip,
    'ppo': ppo,
    'ppo_recurrent': ppo_recurrent,
}
