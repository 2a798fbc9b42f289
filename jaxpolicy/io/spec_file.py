"""Reads and writes spec.json: what a policy sees and does, for use without its simulator.

{"format": 1,
 "obs":    {"shape": [11], "dtype": "float32"}, or an object of such entries by name, or a list of
           such entries for a tuple, nested as the observation is,
 "action": {"shape": [4], "dtype": "float32"},
 "about":  {"env": ..., "agent": ..., "control_hz": ..., "episode_steps": ..., "units": ...}}
"""

import json
import operator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpolicy.io import workdir
from jaxpolicy.types import Spec

FILE = 'spec.json'
_FORMAT = 1


def write(directory: str | Path, spec: Spec, about: dict[str, Any]) -> None:
    """Writes spec.json, atomically.

    Args:
      about: what else a user wants to know: the task, rates, units.

    Raises:
      ValueError: the observation is not made of arrays, dicts and tuples.
    """
    record = {
        'format': _FORMAT,
        'obs': _to_json(spec.obs),
        'action': _to_json(spec.action),
        'about': about,
    }
    workdir.write_json(Path(directory) / FILE, record)


def read(directory: str | Path) -> Spec | None:
    """The spec of a run, or None where there is no spec.json.

    Raises:
      ValueError: the file is damaged or of another format.
    """
    path = Path(directory) / FILE
    record = _record(path)
    if not record:
        return None
    try:
        return Spec(_from_json(record['obs']), _from_json(record['action']))
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path}: expected shapes and dtypes, found: {error!r}') from error


def read_about(directory: str | Path) -> dict[str, Any]:
    """The entry `about` of spec.json, what else it says of a run; {} where there is no file.

    Raises:
      ValueError: the file is damaged or of another format.
    """
    return _record(Path(directory) / FILE).get('about', {})


def _record(path: Path) -> dict[str, Any]:
    """The contents of the file; {} where there is none."""
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f'{path}: not JSON: {error}') from error
    found = record.get('format') if isinstance(record, dict) else record
    if found != _FORMAT:
        raise ValueError(f'{path}: expected format {_FORMAT}, found {found!r}')
    return record


def _to_json(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _to_json(part) for name, part in tree.items()}
    if type(tree) is tuple:
        return [_to_json(part) for part in tree]
    try:
        return {'shape': list(tree.shape), 'dtype': np.dtype(tree.dtype).name}
    except AttributeError as error:
        found = type(tree).__name__
        raise ValueError(f'spec: expected arrays in dicts and tuples, found {found}') from error


def _from_json(tree: Any) -> Any:
    if isinstance(tree, list):
        return tuple(_from_json(part) for part in tree)
    if not isinstance(tree, dict):
        raise TypeError(tree)
    if isinstance(tree.get('dtype'), str):
        return jax.ShapeDtypeStruct(tuple(map(operator.index, tree['shape'])), tree['dtype'])
    return {name: _from_json(part) for name, part in tree.items()}
