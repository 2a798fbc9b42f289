"""Keeps compiled programs on disk, so that the same command compiles only once.

JAX does the keeping: an entry is found by the program, the versions and the device. A program for a
CPU also belongs to the processor that compiled it, which JAX does not ask for; so every kind of
processor has a folder of its own.
"""

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

OFF = 'off'
MAX_BYTES = 4 * 2**30  # JAX drops what was not used for the longest time
_LEAST_S = 0.1  # what compiles sooner is not kept


def use(choice: str = '') -> Path | None:
    """Has JAX keep what this process compiles; call it before anything is compiled.

    Args:
      choice: a folder, or 'off' for none; '': the folder that JAX was told of, as by the variable
        JAX_COMPILATION_CACHE_DIR, else `jaxpolicy` in the user's folder for caches.

    Returns:
      the folder, or None where nothing is kept: also where the folder cannot be written to.
    """
    if choice == OFF:
        jax.config.update('jax_enable_compilation_cache', False)
        return None
    told = jax.config.values['jax_compilation_cache_dir']
    if told and not choice:
        return Path(told)
    folder = (Path(choice).expanduser() if choice else _users()) / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'.{os.getpid()}').touch()
        (folder / f'.{os.getpid()}').unlink()
    except OSError as error:
        print(f'compiled programs are not kept: {error}', file=sys.stderr)
        return None
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_compilation_cache_max_size', MAX_BYTES)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', _LEAST_S)
    return folder


def _users() -> Path:
    """The user's folder for caches."""
    if sys.platform == 'darwin':
        base = Path.home() / 'Library' / 'Caches'
    else:
        base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return base / 'jaxpolicy'


def _processor() -> str:
    """A name for this kind of processor: its architecture, and a hash of what it can do."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    names = ('model name', 'flags', 'Features', 'CPU part')
    told = sorted({line for line in lines if line.startswith(names)}) or lines[:1]
    return f'{platform.machine()}-{hashlib.sha256("".join(told).encode()).hexdigest()[:12]}'
