"""Runs the commands of experiments/ by name: `jaxpolicy train --config=... --workdir=...`.

In an installed package the commands are the modules of `jaxpolicy.experiments`, in a checkout those
of `experiments`. Both are run as `python -m` runs a module, so that a command can import modules
of the current folder.
"""

import ast
import difflib
import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Runs the command that is named first, with the arguments after it."""
    package = Path(__file__).resolve().parent
    installed = (package / 'experiments').is_dir()
    folder = package / 'experiments' if installed else package.parent / 'experiments'
    prefix = 'jaxpolicy.experiments' if installed else 'experiments'
    known = sorted(file.stem for file in folder.glob('*.py') if not file.stem.startswith('_'))
    if len(sys.argv) < 2 or sys.argv[1] in ('help', '-h', '--help'):
        print(_usage(folder, known))
        return
    name = sys.argv[1]
    place = folder.joinpath(*name.split('.'))
    files = (place.with_suffix('.py'), place / '__main__.py')
    if '/' in name or not any(file.is_file() for file in files):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(known)}'
        sys.exit(f'jaxpolicy: error: expected a command, found {name!r}; {hint}')
    sys.argv = [name, *sys.argv[2:]]
    sys.path[:0] = [os.getcwd()] if installed else [os.getcwd(), str(package.parent)]
    runpy.run_module(f'{prefix}.{name}', run_name='__main__', alter_sys=True)


def _usage(folder: Path, commands: list[str]) -> str:
    """The help text: every command with the first line of its docstring."""
    lines = ['usage: jaxpolicy COMMAND [--help] [ARGUMENTS]', '']
    for name in commands:
        text = ast.get_docstring(ast.parse((folder / f'{name}.py').read_text())) or ''
        lines.append(f'  {name:10s} {text.splitlines()[0].split(": python -m")[0].rstrip(":")}')
    lines += ['', 'Benchmarks and studies: jaxpolicy bench.rl, jaxpolicy studies.shift and others.']
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
