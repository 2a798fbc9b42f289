"""The directory of a run: its record of what was asked for, with which versions, and its lock."""

import fcntl
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import config_dict

from jaxpolicy import registry
from jaxpolicy.io import json_text

CONFIG_FILE = 'config.json'
ABSENT = object()  # in place of a value, where a key is missing
FORMAT = 2  # of config.json; files without a number are of format 1
_LOCK_FILE = '.lock'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'mujoco', 'mujoco-mjx', 'numpy')


def prepare(
    workdir: str | Path,
    config: config_dict.ConfigDict,
    seed: int,
    num_seeds: int = 1,
    *,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]],
    fresh: bool = False,
    may_change: Callable[[str, Any, Any], bool] = lambda key, there, given: False,
) -> list[str]:
    """Creates the directory with its config.json, or checks that the one there is of this run.

    Args:
      workdir: created if missing.
      config: JSON-like values only (numbers, strings, None, tuples, nested ConfigDicts).
      seed: of the run; the first one, if several seeds are trained together.
      num_seeds: how many seeds are trained together.
      upgrade: turns the contents of a config.json that is there, perhaps of an older version, into
        the present format.
      fresh: whether nothing was saved here yet; a config.json that is there is then replaced.
      may_change: whether a key, 'loop.num_epochs', may change from its value there to the value
        that is given, where these differ. config.json then has the new values, and its list
        'continued' says what changed.

    Returns:
      lines 'key: there -> given' of all that has changed.

    Raises:
      ValueError: the directory belongs to a run with another config or seed (the message lists the
        differences key by key), or is a file; or a number of a new config is not finite.
    """
    workdir = _make_folder(workdir)
    path = workdir / CONFIG_FILE
    mine = {'config': to_json(config), 'seed': seed, 'num_seeds': num_seeds}
    about: dict[str, Any] = {'versions': versions(), 'git': git_state()}
    if fresh or not path.exists():
        _check_finite(mine['config'], 'config')
        write_json(path, {'format': FORMAT} | mine | about)
        return []
    there = _read(path)
    found = differences(_flat(upgrade(there)), _flat(mine))
    if wrong := [line(*item) for item in found if not may_change(*item)]:
        raise ValueError(
            f'{workdir} was made with another config; choose another --workdir or remove it. '
            'Key: there -> given\n  ' + '\n  '.join(wrong)
        )
    lines = [line(*item) for item in found]
    if lines:
        past = [*there.get('continued', []), {'changes': lines} | about]
        write_json(path, there | {'format': FORMAT} | mine | {'continued': past})
    return lines


def load_record(workdir: str | Path) -> dict[str, Any]:
    """The contents of config.json, as they were written.

    Raises:
      ValueError: there is no readable config.json.
    """
    return _read(Path(workdir) / CONFIG_FILE)


def from_json(config: dict[str, Any]) -> config_dict.ConfigDict:
    """A config from its JSON; lists become tuples, as JSON knows no tuples."""
    return config_dict.ConfigDict(_tuples(config))


def load_num_seeds(workdir: str | Path) -> int:
    """How many seeds a run trains together.

    Raises:
      ValueError: there is no readable config.json.
    """
    return _num_seeds(load_record(workdir))


def lock(workdir: str | Path) -> int:
    """Locks the directory for this process, until it ends or closes the returned descriptor.

    Raises:
      ValueError: another process has locked it, or it is a file.
    """
    workdir = _make_folder(workdir)
    descriptor = os.open(workdir / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 100, 0).decode(errors='replace').strip() or 'unknown'
        os.close(descriptor)
        raise ValueError(f'{workdir} is in use by another process ({owner})') from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f'pid {os.getpid()} on {platform.node()}\n'.encode(), 0)
    return descriptor


def owner_lives(workdir: str | Path) -> bool:
    """Whether the process that locked the directory last still runs; yes if that is not known.

    It asks without locking, so that nobody who wants the lock is disturbed.
    """
    path = Path(workdir) / _LOCK_FILE
    found = re.match(r'pid (\d+) on (.*)', path.read_text()) if path.exists() else None
    if not found:
        return False
    if found.group(2) != platform.node():
        return True
    try:
        os.kill(int(found.group(1)), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def differences(
    there: dict[str, Any], given: dict[str, Any], prefix: str = ''
) -> list[tuple[str, Any, Any]]:
    """(key, there, given) for every key at which two JSON trees differ; `ABSENT` where it lacks."""
    found = []
    for key in sorted(set(there) | set(given)):
        name = prefix + key
        a, b = there.get(key, ABSENT), given.get(key, ABSENT)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, name + '.')
        elif a != b or isinstance(a, bool) != isinstance(b, bool):
            found.append((name, a, b))
    return found


def to_json(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The config as it reads back from JSON (tuples have become lists)."""
    return json.loads(json.dumps(config.to_dict()))


def write_json(path: Path, value: Any) -> None:
    """Writes atomically: readers and killed writers see the old file or the new one.

    Numbers that are not finite become null, so that the file is valid JSON.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    temporary.write_text(json_text.dumps(value, indent=2) + '\n')
    os.replace(temporary, path)


def versions() -> dict[str, str]:
    """The versions of what a run's numbers depend on, and a description of the machine."""
    found = {'python': platform.python_version(), 'platform': platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = 'not installed'
    devices = jax.devices()
    return found | {'device': f'{len(devices)} x {devices[0].device_kind}'}


def git_state() -> dict[str, Any] | None:
    """{'commit', 'dirty'} of the checkout that this package runs from, or None outside git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None
    try:
        commit = _git(root, 'rev-parse', 'HEAD')
        return {'commit': commit.strip(), 'dirty': bool(_git(root, 'status', '--porcelain'))}
    except (OSError, subprocess.SubprocessError):
        return None


def _make_folder(workdir: str | Path) -> Path:
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f'--workdir: expected a directory, found a file: {workdir}') from error
    return workdir


def _check_finite(value: Any, name: str) -> None:
    """Raises a ValueError where a number is not finite: JSON cannot say which one it is."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            _check_finite(item, f'{name}.{key}')
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f'{name}: expected a finite number, found {value}')


def _num_seeds(record: dict[str, Any]) -> int:
    return record.get('num_seeds', 1)  # runs of older versions had one


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """What has to be equal for a run to be continued: the config and the seeds."""
    return record['config'] | {'(seed)': record['seed'], '(num_seeds)': _num_seeds(record)}


def line(key: str, there: Any, given: Any) -> str:
    """Text of one of the `differences`, 'key: there -> given'."""
    there, given = ('(absent)' if x is ABSENT else json.dumps(x) for x in (there, given))
    return f'{key}: {there} -> {given}'


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ['git', '-C', str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f'{path.parent}: expected a run, found {_contents(path.parent)}'
        ) from error
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f'{path}: not JSON: {error}') from error
    if not isinstance(record, dict):
        raise ValueError(f'{path}: expected an object, found {record!r:.100}')
    for key in ('config', 'seed'):
        if key not in record:
            raise ValueError(f'{path}: expected a key {key!r}, found {sorted(record)}')
    if not isinstance(record['config'], dict):
        raise ValueError(f'{path}: config: expected an object, found {record["config"]!r:.100}')
    return record


def _contents(folder: Path) -> str:
    """What there is where the directory of a run was expected, in words."""
    if not folder.is_dir():
        return 'a file' if folder.exists() else f'none; {registry.beside(folder)}'
    runs = sorted(path.parent.name for path in folder.glob(f'*/{CONFIG_FILE}'))
    if runs:
        return f'no {CONFIG_FILE}; the folder has the runs {", ".join(runs)}'
    return f'no {CONFIG_FILE}; {registry.beside(folder / CONFIG_FILE)}'


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
