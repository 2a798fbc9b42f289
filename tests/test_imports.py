"""The house rules that a parser can check: who imports whom, sizes, docstrings, requirements."""

import ast
import collections
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_FUNCTION_LINES, MAX_EXPERIMENT_LINES, MAX_CLOSURES = 60, 120, 2
_WITH_CODE = {'jaxpolicy', 'envs'}  # packages with code in __init__.py: the public face, the tasks

# What each part of the package may import of the package, besides itself.
# types <- ops, nets, diffusion, train_state, optimizers <- agents, envs, data <- loops <- runs
# <- sweeps
_CORE = {'types', 'ranges', 'registry', 'sharding'}
_MATHS = {'ops', 'nets', 'diffusion', 'train_state', 'optimizers'}
_LAYERS = {
    'types': set(),
    'ranges': set(),
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
    'sweeps': _CORE | _MATHS | {'agents', 'envs', 'data', 'loops', 'io', 'runs'},
}
# Third-party modules that only some parts may import; the longest name that fits decides.
_ONLY_IN = {
    'flax.linen': {'nets'},
    'optax': {'agents', 'train_state', 'optimizers'},
    'mujoco': {'envs', 'io/video'},
    'orbax': {'io'},
    'matplotlib': {'io', 'experiments'},
    'absl': {'io', 'experiments'},
    'ml_collections': {'io', 'runs', 'sweeps', 'experiments', 'configs'},
}
# Folders whose name does not say what a reader finds in them.
_VAGUE = {'utils', 'common', 'base', 'core', 'misc', 'helpers'}
# Names that readers mix up: of each row, the project has one.
_NEAR_TWINS = [
    {'train', 'trained', 'trainer'},
    {'perturb', 'disturb'},
    {'label', 'labelling', 'labels'},
]
# These differ by their endings alone and mean different things: a command and a benchmark, both of
# training; a network and functions; packages and the words for what is in them; the result of a run
# and the folder of an evaluation's.
_NO_TWINS = [
    *(['train', 'training'], ['transformer', 'transforms'], ['loop', 'loops']),
    *(['sweep', 'sweeps'], ['result', 'results']),
]
_ENDINGS = ('ing', 'ed', 'er', 's', 'e')
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
    """(line, dotted name) of every import; `from a import b` is a.b, `from . import b` is .b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            prefix = '.' * node.level + (f'{node.module}.' if node.module else '')
            for alias in node.names:
                yield node.lineno, prefix + alias.name


def _absolute(path, dotted):
    """..figures in experiments/bench/peers/sb3.py -> experiments.bench.figures."""
    name = dotted.lstrip('.')
    level = len(dotted) - len(name)
    above = path.relative_to(ROOT).parts[:-level] if level else ()
    return '.'.join([*above, name])


def _part(dotted):
    """jaxpolicy.ops.returns -> ops."""
    return dotted.split('.')[1]


def _first_party_problem(source, part, dotted):
    if dotted.startswith('.'):
        return 'imports are absolute' if source == 'jaxpolicy' else None
    top = dotted.split('.')[0]
    if top == 'tests' or (top == 'experiments' and source != 'experiments'):
        return f'nothing imports {top}'
    if top != 'jaxpolicy' or source != 'jaxpolicy' or part not in _LAYERS:
        return None
    target = _part(dotted)
    if target != part and target not in _LAYERS[part]:
        return f'{part} may import {sorted(_LAYERS[part])}, not {target}'
    return None


def _experiments_problem(path, dotted):
    """Commands, benchmarks and studies: each of them stands alone."""
    _, *folders = path.relative_to(ROOT).parts[:-1]
    target = _absolute(path, dotted).split('.')
    if not folders:
        is_command = target[0] == 'experiments' and target[1:2] not in (['bench'], ['studies'])
        return 'commands do not import commands' if is_command else None
    if target[0] not in ('experiments', 'configs'):
        return None
    home = ['experiments', *folders[: 1 if folders[0] == 'bench' else 2]]
    if target[: len(home)] != home:
        return f'{".".join(home)} may import jaxpolicy and its own files'
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
        if source == 'experiments':
            problem = problem or _experiments_problem(path, dotted)
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
        (
            'jaxpolicy/loops/x.py',
            'from ml_collections import config_dict',
            'ml_collections belongs',
        ),
        ('configs/smoke/x.py', 'from . import ppo', None),
        ('experiments/x.py', 'from tests import quick', 'nothing imports'),
        ('experiments/bench/x.py', 'from experiments.studies.shift import table', 'own files'),
        ('experiments/bench/peers/x.py', 'from ...studies import shift', 'own files'),
        ('experiments/studies/shift/x.py', 'from experiments.bench import ours', 'own files'),
        ('experiments/studies/shift/x.py', 'from ..bake_off import report', 'own files'),
        ('experiments/x.py', 'from experiments import train', 'commands do not'),
        ('experiments/x.py', 'from . import train', 'commands do not'),
        ('experiments/bench/x.py', 'from configs import smoke', 'own files'),
        ('experiments/studies/shift/x.py', 'from experiments import train', 'own files'),
        ('experiments/x.py', 'from jaxpolicy.io import metrics', None),
        ('experiments/x.py', 'from experiments.studies.demo import report', None),
        ('experiments/bench/x.py', 'from . import figures', None),
        ('experiments/bench/peers/x.py', 'from .. import ours', None),
        ('experiments/studies/shift/x.py', 'from .table import Row', None),
        ('experiments/studies/shift/x.py', 'from experiments.studies.shift import table', None),
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
    """Functions, closures in closures, and the commands at the top of experiments/."""
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
        if path.parent == ROOT / 'experiments' and length > MAX_EXPERIMENT_LINES:
            problems.append(f'{_name(path)}: {length} lines, at most {MAX_EXPERIMENT_LINES}')
    assert not problems, '\n' + '\n'.join(problems)


def _is_a_command(path):
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(path.read_text()).body
    )


def test_files_at_the_top_of_experiments_are_commands():
    others = [
        _name(path)
        for path in (ROOT / 'experiments').glob('*.py')
        if path.name != '__init__.py' and not _is_a_command(path)
    ]
    assert not others, f'{others}: parts of commands belong to jaxpolicy, bench or studies'


def test_no_folder_has_a_vague_name():
    found = [
        _name(path)
        for folder in ('jaxpolicy', 'experiments', 'configs', 'tests')
        for path in (ROOT / folder).rglob('*')
        if path.is_dir() and path.name in _VAGUE
    ]
    assert not found, f'{found}: a name says what a reader finds there'


def _names():
    """The names of all modules and packages."""
    paths = [path for top in ('jaxpolicy', 'experiments', 'configs') for path in _files(top)]
    return {name for path in paths for name in (path.stem, path.parent.name)}


@pytest.mark.parametrize('row', _NEAR_TWINS, ids=lambda row: '-'.join(sorted(row)))
def test_no_module_has_a_near_twin(row):
    found = sorted(row & _names())
    assert len(found) <= 1, f'{found}: one word, one meaning'


def _stem(name):
    """training_runs -> train_run."""
    words = name.split('_')
    for index, word in enumerate(words):
        for ending in _ENDINGS:
            if len(word) > len(ending) + 2:
                word = word.removesuffix(ending)
        words[index] = word[:-1] if word[-2:-1] == word[-1:] else word  # labell -> label
    return '_'.join(words)


def test_no_two_modules_differ_by_an_ending_alone():
    alike = collections.defaultdict(set)
    for name in _names():
        alike[_stem(name)].add(name)
    twins = [sorted(names) for names in alike.values() if len(names) > 1]
    twins = [names for names in twins if names not in _NO_TWINS]
    assert not twins, f'{sorted(twins)}: one word, one meaning'


def test_configs_have_a_docstring():
    bare = [
        _name(path)
        for path in _files('configs')
        if path.name != '__init__.py' and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not bare, f'a recipe carries its command and expected result: {bare}'


def test_package_inits_are_empty_but_for_two():
    for path in _files('jaxpolicy'):
        if path.name == '__init__.py' and path.parent.name not in _WITH_CODE:
            body = ast.parse(path.read_text()).body
            code = [node for node in body if not isinstance(node, ast.Expr)]
            assert not code, f'{_name(path)}: only the public face and the tasks by name have code'


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
