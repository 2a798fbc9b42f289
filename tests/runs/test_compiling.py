"""Programs compile ahead, each once, and the calls that follow compile nothing."""

import os
import signal

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring

from jaxpolicy.io import progress, recipe_file
from jaxpolicy.runs import compiling, launch, recipe

LINE = 'tests.commands.line'


@pytest.fixture
def compiled():
    """Names of the functions that XLA compiled since, or that came from the cache on disk."""
    names = []

    def note(event, seconds, **about):
        del seconds
        if event.endswith('backend_compile_duration'):
            names.append(about['fun_name'])

    monitoring.register_event_duration_secs_listener(note)
    yield names
    monitoring.unregister_event_duration_listener(note)


def test_a_call_finds_what_was_compiled_ahead(compiled):
    function = jax.jit(lambda x: jnp.sin(x).sum())
    x = jnp.ones((3, 5))
    compiled.clear()
    with compiling.Compiler() as compiler:
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        compiler.add('sum', compiling.Task(function, (shape,)), count_lines=True)
        stages = compiler.wait('sum')
        assert compiler.wait('another') is None
    assert stages is not None and stages.lines > 0
    assert len(compiled) == 1
    function(x)
    assert len(compiled) == 1


def test_errors_of_the_compiler_reach_who_waits():
    def fails(*_):
        raise RuntimeError('out of memory')

    class Broken:
        trace = staticmethod(lambda *_: Broken)
        lower = staticmethod(lambda: Broken)
        compile = staticmethod(fails)

    with compiling.Compiler() as compiler:
        compiler.add('broken', compiling.Task(Broken, ()))
        with pytest.raises(RuntimeError, match='out of memory'):
            compiler.wait('broken')


def tiny():
    """Of the kinds of runs that are spread over devices, one that compiles quickly."""
    small, config = recipe_file.load('configs/smoke/ppo.py'), recipe.on_policy('a2c', LINE)
    config.agent.hidden, config.env.episode_steps = (), 3
    config.loop, config.eval, config.checkpoint = small.loop, small.eval, small.checkpoint
    return config


@pytest.mark.parametrize('num_devices, num_seeds', [(1, 1), (2, 2)])
def test_a_run_compiles_each_of_its_programs_once(
    tmp_path, compiled, capfd, monkeypatch, num_devices, num_seeds
):
    """Also where it goes on from a checkpoint, which starts with arrays that lie somewhere."""
    config, show = tiny(), progress.Progress.update
    options = launch.Options(num_seeds=num_seeds, num_devices=num_devices)

    def interrupted(bar, done, counts):
        show(bar, done, counts)
        if done == 1:  # Ctrl-C: one round is over, and the next one is under way
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Progress, 'update', interrupted)
    for finished, programs in ((False, ['init', 'run', 'step']), (True, ['run', 'step'])):
        compiled.clear()
        assert launch.train(config, tmp_path / 'run', options) == finished
        names = [name.removeprefix('jit(').removesuffix(')') for name in compiled]
        assert sorted(name for name in names if name in ('init', 'run', 'step')) == programs
        said = capfd.readouterr().err
        assert ('stopping after this round, and saving' in said) == (not finished)
        assert ('stopped after round 2 of 4' in said) == (not finished)
