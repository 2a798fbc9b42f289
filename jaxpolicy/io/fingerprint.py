"""Texts that identify data, weights and code: they are equal where the contents are."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

# Whatever can change what a policy does or an environment answers. `io` only writes it down.
_WITHOUT = {'io'}
_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'mujoco', 'mujoco-mjx', 'playground', 'gym-pusht')
_LENGTH = 16  # hexadecimal digits of a text


def of(tree: Any) -> str:
    """Identifies a tree of arrays, texts and numbers, with their names, shapes and dtypes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]:
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, np.ndarray | np.generic):
            array = np.asarray(leaf)
            digest.update(f'{name} {array.shape} {array.dtype}\n'.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        else:
            digest.update(f'{name} {json.dumps(leaf, default=str)}\n'.encode())
    return digest.hexdigest()[:_LENGTH]


def of_code(more: Iterable[str | Path] = ()) -> str:
    """Identifies the source that acts and simulates: of jaxpolicy without `io`, and of `more`.

    The versions of the packages that compute count as well. The machine does not.

    Args:
      more: files of Python, or folders of them, such as the module of somebody's task.
    """
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in _sources([package, *map(Path, more)]):
        inside = file.relative_to(package) if file.is_relative_to(package) else Path(file.name)
        if inside.parts[0] not in _WITHOUT:
            digest.update(f'{inside.as_posix()}\n'.encode())
            digest.update(file.read_bytes())
    for name in _PACKAGES:
        digest.update(f'{name} {_version(name)}\n'.encode())
    return digest.hexdigest()[:_LENGTH]


def _sources(places: Iterable[Path]) -> list[Path]:
    """Each file of Python once, in an order that does not depend on the machine."""
    found: dict[Path, None] = {}
    for place in places:
        files = sorted(place.rglob('*.py')) if place.is_dir() else [place]
        found |= dict.fromkeys(file.resolve() for file in files)
    return list(found)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return 'not installed'
