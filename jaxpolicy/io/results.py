"""The folder of an evaluation's results, where no other evaluation is overwritten unasked."""

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxpolicy.io import workdir

SUMMARY = 'summary.json'
# What such a folder holds; log.txt is what an evaluation of a sweep printed.
_FILES = (SUMMARY, 'episodes_*.csv', 'video.mp4', 'log.txt', '.*')


def folder(directory: Path, name: str, definition: Mapping[str, Any]) -> Path:
    """Where the results go; nothing is created.

    Args:
      directory: the workdir.
      name: of the folder in it.
      definition: the flags that results depend on, with their values; summary.json holds them.

    Raises:
      ValueError: `name` is no name of a folder, or the folder has another evaluation or other
        files.
    """
    out = directory / name
    if name in ('', '.', '..') or Path(name).name != name or (out.exists() and not out.is_dir()):
        raise ValueError(f'--name: expected the name of a folder in {directory}, found {name!r}')
    if not (out / SUMMARY).exists():
        files = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
        if others := [x for x in files if not any(fnmatch.fnmatch(x, y) for y in _FILES)]:
            raise ValueError(
                f'--name: expected a new folder or that of an evaluation, found {others[0]!r} in '
                f'{out}'
            )
        return out
    there = _read(out / SUMMARY)
    known = {key: there[key] for key in definition if key in there}  # older files have fewer
    found = workdir.differences(known, {key: definition[key] for key in known})
    if lines := [workdir.line(*item) for item in found]:
        raise ValueError(
            f'{out} has the results of another evaluation ({"; ".join(lines)}, there -> given): '
            'give this one another --name=NAME, or remove that folder'
        )
    return out


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f'{path}: not JSON, remove it: {error}') from error
    if not isinstance(found, dict):
        raise ValueError(f'{path}: expected an object, remove it: found {found!r:.100}')
    return found
