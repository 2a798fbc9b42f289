"""TD3+BC on detour, from demonstrations of mixed quality."""

from configs import base
from configs.detour import iql


def get_config():
    config = iql.small(base.offline_rl('td3', 'detour', 'data/detour_mixed.npz'))
    config.agent.bc_weight = 0.4
    return config
