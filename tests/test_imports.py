"""The house rules that a parser can check: who imports whom, sizes, docstrings, requirements."""

import ast
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_FUNCTION_LINES, MAX_EXPERIMENT_LINES, MAX_CLOSURES = 60, 120, 2
_REGISTRIES = {'agents', 'envs', 'formats'}

# What each part of the package may import of the package, besides itself.
# types <- ops, nets, diffusion, train_state, optimizers <- agents, envs, data <- loops <- runs
_CORE = {'types', 'registry', 'sharding'}
_MATHS = {'ops', 'nets', 'diffusion', 'train_state', 'optimizers'}
_LAYERS = {
    'types': set(),
    'registry': set(),
    'sharding': set(),
    'ops': {'types'},
    'nets': {'types'},
    'diffusion': {'types', 'registry'},
    'train_state': {'types'},
    'optimizers': {'types'},
    'agents': _CORE | _MATHS,
    'envs': _CORE | {'ops'},
    'data': _CORE | {'ops'},
    'loops': _CORE | {'ops', 'train_state', 'agents', 'envs', 'data'},
    'io': _CORE | {'ops', 'train_state'},
    'runs': _CORE | _MATHS | {'agents', 'envs', 'data', 'loops', 'io'},
}
# Third-party modules that only some parts may import; the longest name that fits decides.
_ONLY_IN = {
    'flax.linen': {'nets'},
    'optax': {'agents', 'train_state', 'optimizers'},
    'mujoco': {'envs', 'io/video'},
    'orbax': {'io'},
    'matplotlib': {'io', 'experiments'},
    'absl': {'io', 'experiments'},
    'ml_collections': {'io', 'runs', 'experiments', 'configs'},
}
# Packages that `import jaxpolicy`, its types and its agents must work without.
_OPTIONAL = {
    *('gym_pusht', 'gymnasium', 'pymunk', 'tensorboardX', 'matplotlib', 'tensorflow', 'torch'),
    *('tensorflow_datasets', 'av', 'mujoco', 'orbax'),
}


def _files(folder):
    return sorted(path for path in (ROOT / folder).rglob('*.py'))


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _imports(tree):
    """(line, dotted name) of every import; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            prefix = '.' * node.level + (node.module or '')
            for alias in node.names:
                yield node.lineno, f'{prefix}.{alias.name}'


def _part(dotted):
    """jaxpolicy.ops.returns -> ops."""
    return dotted.split('.')[1]


def _first_party_problem(source, part, dotted):
    if dotted.startswith('.'):
        return 'imports are absolute'
    top = dotted.split('.')[0]
    if top in ('experiments', 'tests') and source != 'experiments':
        return f'nothing imports {top}'
    if top != 'jaxpolicy' or source != 'jaxpolicy' or part not in _LAYERS:
        return None
    target = _part(dotted)
    if target != part and target not in _LAYERS[part]:
        return f'{part} may import {sorted(_LAYERS[part])}, not {target}'
    return None


def _third_party_problem(place, dotted):
    """`place` is the file inside the package without .py, or the top folder's name."""
    for name, allowed in _ONLY_IN.items():
        fits = dotted == name or dotted.startswith(name + '.')
        if fits and not any(place == part or place.startswith(part + '/') for part in allowed):
            return f'{name} belongs to {sorted(allowed)}'
    return None


def _check_imports(path, tree):
    source = path.relative_to(ROOT).parts[0]
    inside = path.relative_to(ROOT / source).with_suffix('').as_posix()
    place = inside if source == 'jaxpolicy' else source
    for line, dotted in _imports(tree):
        problem = _first_party_problem(source, inside.split('/')[0], dotted)
        problem = problem or _third_party_problem(place, dotted)
        if problem:
            yield f'{_name(path)}:{line} imports {dotted}: {problem}'


def test_who_imports_whom():
    problems = [
        problem
        for folder in ('jaxpolicy', 'experiments', 'configs')
        for path in _files(folder)
        for problem in _check_imports(path, ast.parse(path.read_text()))
    ]
    assert not problems, '\n' + '\n'.join(problems)


def test_every_part_of_the_package_is_in_the_table():
    entries = {path.stem for path in (ROOT / 'jaxpolicy').iterdir() if path.name[0] not in '_.'}
    assert entries <= set(_LAYERS), f'add {sorted(entries - set(_LAYERS))} to _LAYERS'


@pytest.mark.parametrize(
    'place,statement,problem',
    [
        ('jaxpolicy/ops/x.py', 'from jaxpolicy.agents import bc', 'ops may import'),
        ('jaxpolicy/envs/x.py', 'from jaxpolicy.data import episodes', 'envs may import'),
        ('jaxpolicy/loops/x.py', 'from jaxpolicy.io import metrics', 'loops may import'),
        ('jaxpolicy/loops/x.py', 'import jaxpolicy.runs.program', 'loops may import'),
        ('jaxpolicy/agents/x.py', 'from flax import linen as nn', 'flax.linen belongs'),
        ('jaxpolicy/loops/x.py', 'import optax', 'optax belongs'),
        ('jaxpolicy/data/x.py', 'import mujoco.mjx', 'mujoco belongs'),
        ('jaxpolicy/ops/x.py', 'from . import returns', 'absolute'),
        ('jaxpolicy/data/x.py', 'from experiments import train', 'nothing imports'),
        ('jaxpolicy/agents/x.py', 'from jaxpolicy.ops import returns', None),
        ('jaxpolicy/nets/x.py', 'from flax import linen as nn', None),
        ('jaxpolicy/ops/x.py', 'from flax import struct', None),
        ('experiments/x.py', 'from jaxpolicy.io import metrics', None),
    ],
)
def test_the_rules_catch_what_they_should(place, statement, problem):
    found = list(_check_imports(ROOT / place, ast.parse(statement)))
    assert len(found) == (problem is not None)
    assert not found or problem in found[0]


def _nesting(function):
    """How deep functions are nested in a function: 0 when it has none inside."""
    inner = [
        _nesting(node) + 1
        for node in ast.walk(function)
        if isinstance(node, ast.FunctionDef) and node is not function
    ]
    return max(inner, default=0)


def test_functions_and_experiments_are_short():
    """Functions, closures in closures, and the experiments that are programs."""
    problems = []
    for path in _files('jaxpolicy') + _files('experiments'):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef) or node.end_lineno is None:
                continue
            where, length = (
                f'{_name(path)}:{node.lineno} {node.name}',
                node.end_lineno - node.lineno,
            )
            if length >= MAX_FUNCTION_LINES:
                problems.append(f'{where}: {length + 1} lines, at most {MAX_FUNCTION_LINES}')
            if _nesting(node) > MAX_CLOSURES:
                problems.append(f'{where}: functions nested {_nesting(node)} deep')
        length = len(text.splitlines())
        is_program = path.parent == ROOT / 'experiments' and '__main__' in text
        if is_program and length > MAX_EXPERIMENT_LINES:
            problems.append(f'{_name(path)}: {length} lines, at most {MAX_EXPERIMENT_LINES}')
    assert not problems, '\n' + '\n'.join(problems)


def test_configs_have_a_docstring():
    bare = [
        _name(path)
        for path in _files('configs')
        if path.name != '__init__.py' and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not bare, f'a recipe carries its command and expected result: {bare}'


def test_package_inits_are_empty_but_for_the_registries():
    for path in _files('jaxpolicy'):
        if path.name == '__init__.py' and path.parent.name not in _REGISTRIES:
            body = ast.parse(path.read_text()).body
            code = [node for node in body if not isinstance(node, ast.Expr)]
            assert not code, f'{_name(path)}: only the registries have code'


def test_importing_the_package_pulls_in_nothing_optional():
    code = (
        'import sys, jaxpolicy, jaxpolicy.types, jaxpolicy.train_state\n'
        f'print(*sorted({_OPTIONAL!r} & set(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], 'import them where they are used'


def _requirement(line):
    return line.split('#')[0].replace("'", '"').replace(' ', '')


def test_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    listed = {_requirement(line) for line in (ROOT / 'requirements.txt').read_text().splitlines()}
    wanted = project['dependencies'] + project['optional-dependencies']['dev']
    assert listed - {''} == {_requirement(line) for line in wanted}
