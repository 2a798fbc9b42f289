"""The environments by name; each module has `Config`, `make` (or `make_host`) and `render`.

`ENVS` run on the device; `HOST_ENVS` are simulators outside JAX, for evaluation; `EXPERTS` are
scripted demonstrators of an env, `make(config of the env) -> Policy`.
"""

import os
import sys

if sys.platform == 'linux' and 'DISPLAY' not in os.environ:
    os.environ.setdefault('MUJOCO_GL', 'egl')  # mujoco reads it once, when it is first imported

from jaxpolicy.envs import detour, expert, pusht_gym, reach

ENVS = {'detour': detour, 'reach': reach}
HOST_ENVS = {'pusht_gym': pusht_gym}
EXPERTS = {'detour': expert}
