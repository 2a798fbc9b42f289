"""The environments by name; each module has `Config`, `make` (or `make_host`) and `render`.

`ENVS` run on the device; `HOST_ENVS` are simulators outside JAX, for evaluation; `EXPERTS` are
scripted demonstrators of an env, `make(config of the env) -> Policy`.
"""

from jaxpolicy.envs import detour, expert, pusht_gym, reach

ENVS = {'detour': detour, 'reach': reach}
HOST_ENVS = {'pusht_gym': pusht_gym}
EXPERTS = {'detour': expert}
