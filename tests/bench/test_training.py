"""The training benchmark on a tiny U-Net: its figures, and that its peer sees the same data."""

import importlib.util

import numpy as np
import pytest

from experiments.bench import training
from jaxpolicy.data import windows
from jaxpolicy.io import recipe_file
from jaxpolicy.runs import kinds, program


@pytest.fixture
def config(demos):
    config = recipe_file.load('configs/smoke/diffusion.py')
    config.data.path = str(demos)
    config.agent.network, config.agent.width, config.agent.num_blocks = 'mlp', 16, 1
    config.loop.epochs_per_round = 3
    return config


def test_a_row():
    rows = training.make_rows({'jaxpolicy': [9.0, 2.0, 4.0, 3.0]}, 10, 6e9, 100e9)
    assert rows[0]['compile_s'] == pytest.approx(6.0)  # the median of later turns is 3 s
    assert rows[0]['ms'] == pytest.approx(300.0)
    assert rows[0]['updates_per_s'] == pytest.approx(10 / 3)
    assert rows[0]['over_limit'] == pytest.approx(0.3 / 0.06)


def test_turns_are_timed_one_by_one(config):
    runners, updates, work = training.make_runners(config, '')
    times = training.measure(runners, 2)
    assert len(times['jaxpolicy']) == 3 and min(times['jaxpolicy']) > 0
    assert updates >= 1 and work > 0


def test_the_updates_of_a_turn_are_those_that_the_loop_counts(config):
    _, updates, _ = training.make_runners(config, '')
    run = kinds.make_run(config)
    compiled = program.of_run(run, seed=0, num_seeds=1, mesh=None)
    assert updates == compiled.step(compiled.init(), run.data)[1]['updates'] == 3


def test_mistakes_are_named(config):
    with pytest.raises(ValueError, match="--peer: expected one of .*'torch'.*found 'jax'"):
        training.make_runners(config, 'jax')
    with pytest.raises(ValueError, match="--config: expected a diffusion agent, found 'ppo'"):
        training.make_runners(recipe_file.load('configs/smoke/ppo.py'), '')


@pytest.mark.skipif(importlib.util.find_spec('diffusers') is None, reason="needs the extra 'bench'")
def test_the_peer_sees_our_windows(config):
    from experiments.bench.peers import torch_training

    data = kinds.make_run(config).data
    theirs = torch_training.Windows(data)
    assert len(theirs) == windows.num_windows(data)
    chunk = windows.gather(data, np.arange(len(theirs)))
    for i in (0, len(theirs) // 2, len(theirs) - 1):
        obs, action = theirs[i]
        for found, ours, everything in (
            (obs, chunk.obs[i], data.obs),
            (action, chunk.action[i], data.action),
        ):
            low, high = (f(np.asarray(everything), axis=0) for f in (np.min, np.max))
            np.testing.assert_allclose(
                (found.numpy() + 1) / 2 * (high - low) + low, ours, atol=1e-5
            )
    runners, updates, _ = training.make_runners(config, 'torch')
    assert updates and runners['torch']() is None
