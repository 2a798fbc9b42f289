"""jaxpolicy: robot policy learning in JAX, as a library and as commands.

What a user of the library types is here, and is imported when it is first used:

  fit, train            learn from demonstrations, or from experience in one's own environment
  save, load            a trained policy to a directory and back; `load` opens runs of commands too
  Episodes              demonstrations in memory
  Env, EnvState, Spec   what an environment is
  Policy, Agent         what acts, and what learns

Everything else is imported from its module, as `from jaxpolicy.diffusion import samplers`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxpolicy.data.episodes import Episodes as Episodes
    from jaxpolicy.runs import library, saved
    from jaxpolicy.types import Agent as Agent
    from jaxpolicy.types import Env as Env
    from jaxpolicy.types import EnvState as EnvState
    from jaxpolicy.types import Policy as Policy
    from jaxpolicy.types import Spec as Spec

    Trained, fit, save, train = library.Trained, library.fit, library.save, library.train
    load = saved.load_policy

__version__ = '0.1.0'

_FACE = {  # name: where it is
    **{name: f'jaxpolicy.types:{name}' for name in ('Agent', 'Env', 'EnvState', 'Policy', 'Spec')},
    **{name: f'jaxpolicy.runs.library:{name}' for name in ('Trained', 'fit', 'save', 'train')},
    'Episodes': 'jaxpolicy.data.episodes:Episodes',
    'load': 'jaxpolicy.runs.saved:load_policy',
}


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, _, attribute = _FACE[name].partition(':')
    return vars(importlib.import_module(module))[attribute]


def __dir__() -> list[str]:
    return sorted([*globals(), *_FACE])
