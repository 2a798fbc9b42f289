"""Changes keys of recipes at random, and traces what they describe: it works, or one line says why.

  python -m tests.fuzz_configs --examples=2000 [--first=0] [--recipe=smoke]

A change has the type that the recipe holds there, and its value is sane, at a limit or senseless.
Training and evaluation are built and traced, and nothing is compiled or run. What is refused has to
be refused with a ValueError or an ImportError of one line that names a key which was changed.
"""

import argparse
import collections
import contextlib
import copy
import functools
import io
import os
import pathlib
import sys
import tempfile
import time
import traceback
from typing import Any, NamedTuple
from unittest import mock

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import hypothesis
import jax
import numpy as np
from hypothesis import strategies as st
from ml_collections import config_dict

from jaxpolicy import envs, registry, types
from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.io import recipe_file, settings
from jaxpolicy.runs import (
    environment,
    evaluation,
    kinds,
    learner,
    library,
    program,
    recipe,
    sections,
)

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / 'configs'
_SIZES = {  # of the base, wherever a recipe has the key
    'agent.hidden': (8,),
    'agent.actor_hidden': (8,),
    'agent.critic_hidden': (8,),
    'agent.memory_size': 8,
    'agent.num_epochs': 1,
    'agent.num_minibatches': 2,
    'agent.num_atoms': 5,
    'agent.num_sample_steps': 2,
    'loop.num_envs': 4,
    'loop.batch_size': 8,
    'loop.buffer_size': 256,
    'loop.learning_starts': 8,
    'loop.iterations_per_round': 2,
    'loop.queries_per_round': 4,
    'loop.num_epochs': 2,
    'loop.num_minibatches': 4,
    'data.num_episodes': 2,
    'env.episode_steps': 16,
    'eval.num_episodes': 2,
    'imitate.length': 8,
}
_INTS = (0, 1, -1, 2, 3, 5, 100, 2**31 - 1, 2**31, 10**9, 10**12, 10**18, -(10**12))
_FLOATS = (0.0, 1.0, -1.0, 0.5, 2.0, 1e-3, 1e-30, 1e-300, 1e30, 1e300)
_FLOATS += tuple(map(float, ('nan', 'inf', '-inf')))
_NAMES = ('', ' ', 'unknown', 'no.such', 'jaxpolicy.types', 'a,b', '0', '../x', 'é', 'None')
_NAMES += ('running', 'min_max', 'none', 'host', 'sparse', 'shaped', 'return', 'length', 'best')
_NAMES += ('deterministic', 'stochastic', 'playground/CartpoleBalance', 'playground/nothing')
_NAMES += ('gaussian', 'mixture', 'flow', 'edm', 'linear', 'tanh', 'lstm', 'thrifty', 'surprise')
_NAMES += ('temporal_ensemble', 'state', 'native', 'warp', 'bfloat16', '{"a": 1}', '[1]', 'cross')
_NAMES += tuple(name for table in registry.TABLES.values() for name in table)
_WRAPS = ((), ('unknown',), ('no.such',), (3,), (('jaxpolicy.types.Env', {}),))
_WRAPS += ((('jaxpolicy.envs.wrap.disturb.noise_obs', {'std': 0.1}),),)
_WRAPS += ((('jaxpolicy.envs.wrap.disturb.noise_obs', {'std': -1.0}),),)
_WRAPS += ((('jaxpolicy.envs.wrap.disturb.noise_obs', {'sd': 1.0}),), (('a', 'b', 'c'),))
_WRAPS += ((('jaxpolicy.envs.wrap.disturb.noise_obs', 3),),)


class Found(NamedTuple):
    """What became of one example: 'accepted', 'refused' or 'fault', and why."""

    outcome: str
    text: str = ''


def names(pattern: str = '') -> list[str]:
    """The recipes 'task/name' whose names contain the pattern."""
    files = [f for f in sorted(CONFIGS.glob('*/[a-z]*.py')) if f.parent.name != 'sweeps']
    return [name for f in files if pattern in (name := f'{f.parent.name}/{f.stem}')]


@functools.cache
def base(name: str, folder: pathlib.Path) -> config_dict.ConfigDict:
    """A recipe of tiny sizes, whose demonstrations and experts lie in the folder."""
    config = recipe_file.load(str(CONFIGS / f'{name}.py')).unlock()
    sizes = dict(_SIZES)
    if 'network' in config.agent:
        unet = config.agent.network == 'unet1d'
        sizes |= {'agent.dims': (8, 16)} if unet else {'agent.width': 16, 'agent.num_blocks': 1}
        if config.agent.get('objective', 'flow') not in ('flow', 'edm'):
            sizes['agent.num_train_steps'] = 4
    else:
        sizes |= {'agent.width': 16, 'agent.num_blocks': 1}
    for key, value in sizes.items():
        group, leaf = key.split('.')
        if leaf in config.get(group, {}) and config[group][leaf]:
            config[group][leaf] = value
    if config.get('data', {}).get('path'):
        config.data.path = str(_demonstrations(config.env.name, folder))
        if 'format' in config.data:
            config.data.format = 'episodes'
    if config.get('imitate', {}).get('path'):
        config.imitate.path = str(_demonstrations(config.env.name, folder))
    if config.loop.name in learner.ONLINE and config.normalize.obs == 'min_max':
        config.normalize.obs = 'none'  # there is no run to begin with
    if 'expert' in config and config.env.name != 'detour':
        config.expert.workdir = str(_expert(config.env.name, folder))
    return config.lock()


@functools.cache
def _demonstrations(env: str, folder: pathlib.Path) -> pathlib.Path:
    """Random episodes with rewards, in a file; a host's Push-T has the observations of ours."""
    env = 'pusht' if env == 'pusht_gym' else env
    group = config_dict.ConfigDict({'env': recipe.env_group(env), 'loop': {'name': ''}})
    spec = environment.make_env(config_dict.ConfigDict({**group, **recipe.WORLD})).spec
    rng, rows, ends = np.random.default_rng(0), 64, np.arange(16, 65, 16)
    obs = rng.normal(size=(rows, *spec.obs.shape)).astype(np.float32)
    if types.is_discrete(spec):
        size = spec.action.shape[0]
        action = np.eye(size, dtype=np.int8)[rng.integers(size, size=rows)]
    else:
        action = rng.uniform(-1, 1, size=(rows, *spec.action.shape)).astype(np.float32)
    episodes = episodes_lib.Episodes(obs, action, ends, {})._replace(
        reward=rng.normal(size=rows).astype(np.float32),
        termination=np.zeros(rows, np.uint8),
        last_obs=obs[ends - 1],
    )
    path = folder / f'{env.replace("/", "_")}.npz'
    episodes_lib.save(path, episodes)
    return path


@functools.cache
def _expert(env: str, folder: pathlib.Path) -> pathlib.Path:
    """The workdir of an untrained policy of the task."""
    config = recipe.on_policy('ppo', env)
    config.agent.hidden = (8,)
    config.loop.num_envs = config.loop.rollout_length = 8
    run = kinds.make_run(config)
    state = program.of_run(run, 0, 1, None).init()
    directory = folder / f'expert_{env}'
    library.save(directory, library.Trained(config.lock(), run.spec, state, [{}]))
    return directory


def changes(name: str, folder: pathlib.Path) -> st.SearchStrategy[dict[str, Any]]:
    """New values of 1 to 4 keys of a recipe."""
    config = base(name, folder)
    keys = [key for key in settings.keys(config) if not key.startswith('randomize.')]

    def values(chosen: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({key: _values(key, _get(config, key)) for key in chosen})

    chosen = st.lists(st.sampled_from([*keys, 'randomize']), min_size=1, max_size=4, unique=True)
    return chosen.flatmap(values)


def _values(key: str, old: Any) -> st.SearchStrategy[Any]:
    if key in ('wrap', 'loop.wrap'):
        return st.sampled_from(_WRAPS)
    if key == 'randomize':
        return st.fixed_dictionaries({'entry': _entries()})
    if isinstance(old, bool):
        return st.booleans()
    if isinstance(old, int):
        return st.sampled_from(_INTS) | st.sampled_from((old, old + 1, 2 * old))
    if isinstance(old, float):
        return st.sampled_from(_FLOATS) | st.sampled_from((old, old / 2, 2 * old))
    if isinstance(old, str):
        return st.sampled_from(_NAMES)
    if not isinstance(old, tuple | list):
        raise TypeError(f'{key}: no values are known for {old!r}')
    items = [type(item) for item in old] or [int, float, str]
    each = st.one_of(*(_values(key, kind()) for kind in dict.fromkeys(items)))
    return st.lists(each, max_size=3).map(tuple) | st.just(tuple(old))


def _entries() -> st.SearchStrategy[Any]:
    fields = ('body_mass', 'dof_damping', 'env.action_scale', 'geom_friction[0]', 'nq', '', 'a+b')
    number = st.sampled_from(_FLOATS) | st.sampled_from((0, 1))
    parts = (st.sampled_from(fields), st.sampled_from(('scale', 'add', 'set', '')))
    ways = st.sampled_from(('uniform', 'log_uniform', 'normal', ''))
    return st.tuples(*parts, ways, number, number) | st.sampled_from(((), ('body_mass',), 3))


def _get(config: config_dict.ConfigDict, key: str) -> Any:
    return functools.reduce(lambda node, part: node[part], key.split('.'), config)


_randomized = environment.randomized


@functools.cache
def _traced_once(name: str, chosen: Any) -> types.Env:
    task = envs.resolve(name)
    env = _randomized(task, chosen, None)
    return types.Env(jax.jit(env.reset), jax.jit(env.step), env.spec)


def _quickly(task: envs.Task, chosen: Any, entries: Any) -> types.Env:
    """As `environment.randomized`; JAX traces the physics of each Config once."""
    return _randomized(task, chosen, entries) if entries else _traced_once(task.name, chosen)


def trace(config: config_dict.ConfigDict) -> None:
    """Builds and traces all that training would compile."""
    kinds.check_used(config)
    run = kinds.make_run(config)
    evaluator = evaluation.make(config) if config.eval.every else None
    if evaluator:
        sections.check_fit(config, run.spec, evaluator.spec)
    compiled = program.of_run(run, 0, 1, None)
    jax.eval_shape((run.traced or run.loop).step, compiled.template, run.data)
    if evaluator:
        task = evaluator.task(compiled.template.train, config.eval.num_episodes)
        if task:
            jax.eval_shape(task.function, *task.args)


def attempt(name: str, changed: dict[str, Any], folder: pathlib.Path) -> Found:
    """Tries a recipe with changes."""
    config = copy.deepcopy(base(name, folder)).unlock()
    for key, value in changed.items():
        *groups, leaf = key.split('.')
        group = _get(config, '.'.join(groups)) if groups else config
        group[leaf] = config_dict.ConfigDict(value) if isinstance(value, dict) else value
    config.lock()
    try:
        quickly = mock.patch.object(environment, 'randomized', _quickly)
        with quickly, contextlib.redirect_stderr(io.StringIO()):
            trace(config)
    except (ValueError, ImportError) as error:
        text = str(error)
        wanted = {part for key in changed for part in (key.rsplit('.', 1)[-1], f'config.{key}')}
        wanted |= {f'config.{key.split(".")[0]}' for key in changed}
        if '\n' in text.strip() or len(text) > 1000:
            return Found('fault', f'several lines\n{traceback.format_exc()}')
        if not any(part in text for part in wanted):
            return Found('fault', f'no key is named\n{traceback.format_exc()}')
        return Found('refused', text)
    except Exception:
        return Found('fault', traceback.format_exc())
    return Found('accepted')


def fuzz(num_examples: int, folder: pathlib.Path, pattern: str = '', first: int = 0):
    """Tries so many examples, always the same ones.

    Faults are printed when they are found.

    Returns:
      How often each outcome was found, and the faults: (recipe, changes, text).
    """
    counts, faults, tried = collections.Counter(), [], []

    @hypothesis.settings(
        max_examples=num_examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def one(data):
        name = data.draw(st.sampled_from(names(pattern)))
        changed = data.draw(changes(name, folder))
        tried.append(name)
        if len(tried) <= first:
            return
        found = attempt(name, changed, folder)
        counts[found.outcome] += 1
        if found.outcome == 'fault':
            faults.append((name, changed, found.text))
            print(f'\n{len(tried)}: {name} with {changed}:\n{found.text}', flush=True)
        if len(tried) % 500 == 0:
            jax.clear_caches()

    one()
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--examples', type=int, default=2000)
    parser.add_argument('--first', type=int, default=0, help='leaves so many out at the beginning')
    parser.add_argument('--recipe', default='', help='part of the names of the recipes')
    given = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = fuzz(given.examples, pathlib.Path(folder), given.recipe, given.first)
    print(f'{dict(counts)} in {time.perf_counter() - begin:.0f} s')
    sys.exit(bool(faults))


if __name__ == '__main__':
    main()
