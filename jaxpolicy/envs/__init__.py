"""The environments by name; each module has `Config`, `make` (or `make_host`), `render`
and `control_hz`.

`ENVS` run on the device, and so does any task of MuJoCo Playground, as 'playground/<task>';
`resolve` knows both. `HOST_ENVS` are simulators outside JAX, for evaluation; `EXPERTS` are scripted
demonstrators of an env, `make(config of the env) -> Policy`. The modules in `GOALS` have
`goals(config) -> types.Goals`: their observations contain the goal, which hindsight may replace.
"""

import os
import sys
from typing import Any

if sys.platform == 'linux' and 'DISPLAY' not in os.environ:
    os.environ.setdefault('MUJOCO_GL', 'egl')  # mujoco reads it once, when it is first imported

from jaxpolicy.envs.adapters import playground, pusht_gym
from jaxpolicy.envs.tasks import cartpole, detour, pendulum, pick, pick_expert, pusht, reach
from jaxpolicy.envs.tasks import detour_expert as expert

ENVS = {
    'cartpole': cartpole,
    'detour': detour,
    'pendulum': pendulum,
    'pick': pick,
    'pusht': pusht,
    'reach': reach,
}
HOST_ENVS = {'pusht_gym': pusht_gym}
RANDOMIZABLE = (detour, pick, playground, reach)  # `make` takes a draw of envs.randomize
RELATIVE = (detour, pick, reach)  # actions are changes of targets: zeros hold them
GOALS = {'pick': pick, 'reach': reach}
EXPERTS = {'detour': expert, 'pick': pick_expert}


def resolve(name: str) -> tuple[Any, Any]:
    """The module and the default config of an environment that runs on the device.

    Raises:
      ValueError: there is none of that name.
      ImportError: a task of Playground, which is not installed.
    """
    prefix, _, task = name.partition('/')
    if prefix == 'playground' and task:
        return playground, playground.defaults(task)
    if name not in ENVS:
        known = [*sorted(ENVS), 'playground/<task>']
        raise ValueError(f'config.env.name: expected one of {known}, found {name!r}')
    return ENVS[name], ENVS[name].Config()
