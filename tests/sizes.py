"""Prints how large the project is, beside the limits that its design sets.

  python -m tests.sizes [--fast] ['COMMAND [FLAGS]' ...]

The first rows are the project's files that a run imports. They are measured: a process runs each
command, such as 'train --config=configs/smoke/ppo.py --workdir={folder}' in a temporary folder, and
looks at the modules that it has loaded. `--fast` leaves these rows out; the rest reads the source.
"""

import argparse
import ast
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Two more files make the video at the end of a run, which is not counted here.
_FLAGS = '--workdir={folder} --novideo'
RUNS = [f'train --config=configs/smoke/{name}.py {_FLAGS}' for name in ('ppo', 'sac')]
MAX_RUN_FILES, MAX_RUN_LINES, MAX_READING = 45, 6_500, 12
MAX_FILE, MAX_FUNCTION, MAX_COMMAND, MAX_COMMANDS = 250, 60, 120, 12

# Runs a command as `python -m` does, and prints the file of every module that is loaded at its end.
_RUN_AND_LOOK = """
import atexit, runpy, sys
atexit.register(lambda: [print(vars(m).get('__file__')) for m in [*sys.modules.values()]])
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
"""


def lines(*patterns: str) -> dict[str, int]:
    """The number of lines of every file of these patterns, without the empty ones."""
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in found}
    return {path.as_posix(): size for path, size in sizes.items() if size}


def imports(path: Path) -> list[str]:
    """The absolute dotted name of every import; `from a import b` is a.b."""
    found, package = [], path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = '.'.join([*above, *filter(None, [node.module])])
            found += [f'{module}.{alias.name}' for alias in node.names]
    return found


def file_of(dotted: str) -> Path | None:
    """The project's file that an import reads: a module, or the one that defines the name."""
    path = ROOT.joinpath(*dotted.split('.'))
    names = [f'{place}{end}' for place in (path, path.parent) for end in ('.py', '/__init__.py')]
    return next((Path(name) for name in names if Path(name).is_file()), None)


def reading(path: Path) -> int:
    """How many files are the file and all that it imports, however indirectly, but for types.py."""
    seen, todo = {ROOT / 'jaxpolicy/types.py'}, [path]
    while todo:
        if (path := todo.pop()) not in seen and path.stat().st_size:
            seen.add(path)
            todo += filter(None, map(file_of, imports(path)))
    return len(seen) - 1


def loaded_by(command: str) -> set[str]:
    """The files that `python -m experiments.COMMAND` has loaded at its end, itself included."""
    with tempfile.TemporaryDirectory() as folder:
        name, *flags = (part.format(folder=folder) for part in shlex.split(command))
        line = [sys.executable, '-c', _RUN_AND_LOOK, f'experiments.{name}', *flags]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'sizes: experiments.{command} failed:\n{done.stderr}')
    modules = {line.removeprefix(f'{ROOT}/') for line in done.stdout.splitlines()}
    return modules | {f'experiments/{name}.py', *(flag.partition('=')[2] for flag in flags)}


def show(what: str, number: int, limit: int, parts: dict[str, int] | None = None) -> None:
    """One row of the table, and below it the parts that it sums up, the largest first."""
    print(f'{what:60} {number:6,} {limit:6,}{"  over" if number > limit else ""}')
    parts = sorted((parts or {}).items(), key=lambda part: -part[1])
    text = ', '.join(f'{name}={size}' for name, size in parts)
    print(end=textwrap.indent(textwrap.fill(text, 92) + '\n' * bool(text), '    '))


def main() -> None:
    parser = argparse.ArgumentParser(description='Prints how large the project is.')
    parser.add_argument('runs', nargs='*', default=RUNS, metavar='COMMAND [FLAGS]')
    parser.add_argument('--fast', action='store_true')
    flags = parser.parse_args()
    print(f'{"":60} {"now":>6} {"limit":>6}')
    sources = lines('jaxpolicy/**/*.py', 'experiments/**/*.py', 'configs/**/*.py')
    for command in () if flags.fast else flags.runs:
        loaded = [sources[name] for name in loaded_by(command) if name in sources]
        show(f'files of {" ".join(command.split()[:2])}', len(loaded), MAX_RUN_FILES)
        show('their lines', sum(loaded), MAX_RUN_LINES)
    commands = lines('experiments/*.py')
    show('files at the top of experiments/', len(commands), MAX_COMMANDS, commands)
    show('lines of the longest of them', max(commands.values()), MAX_COMMAND)
    long = {name: size for name, size in sources.items() if size > MAX_FILE}
    show(f'files of more than {MAX_FILE} lines', len(long), 0, long)
    long = {
        f'{name}:{node.name}': size
        for name in sources
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.FunctionDef)
        and (size := node.end_lineno - node.lineno + 1) > MAX_FUNCTION
    }
    show(f'functions of more than {MAX_FUNCTION} lines', len(long), 0, long)
    agents = {path.stem: reading(path) for path in ROOT.glob('jaxpolicy/agents/[!_]*.py')}
    del agents['transforms']  # which is no algorithm
    show('most files to read for one algorithm', max(agents.values()), MAX_READING, agents)


if __name__ == '__main__':
    main()
