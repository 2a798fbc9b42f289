"""The agents by name; each module has `Config` and `make(config, spec) -> Agent`."""

from jaxpolicy.agents import bc, diffusion_policy, ppo, ppo_recurrent

AGENTS = {'bc': bc, 'diffusion': diffusion_policy, 'ppo': ppo, 'ppo_recurrent': ppo_recurrent}
