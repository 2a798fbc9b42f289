"""The peers of the benchmarks: other libraries that do the same work, imported when asked for."""

import importlib
from collections.abc import Sequence
from types import ModuleType

MODULES = {  # --peer: module in this folder
    'brax': 'brax_ppo',  # of bench.rl, on policy
    'sb3': 'sb3',  # of bench.rl, off policy
    'diffusers': 'torch_unet',  # of bench.sampling
    'torch': 'torch_training',  # of bench.training
}


def check(name: str, known: Sequence[str]) -> None:
    """Raises a ValueError where `name`, which may be '', is not one of the benchmark's peers."""
    if name and name not in known:
        raise ValueError(f'--peer: expected one of {sorted(known)}, found {name!r}')


def load(name: str, known: Sequence[str]) -> ModuleType:
    """The module of a peer.

    Raises:
      ValueError: it is not one of the benchmark's peers, `known`.
      ImportError: the extra is not installed.
    """
    check(name, known)
    try:
        return importlib.import_module(f'.{MODULES[name]}', __name__)
    except ImportError as error:
        raise ImportError(
            f"--peer={name} needs the extra: pip install 'jaxpolicy[bench]' ({error})"
        ) from error
