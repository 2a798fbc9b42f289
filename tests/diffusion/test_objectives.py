"""Objectives: levels, targets, and that a perfect network recovers x_0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.diffusion import objectives, process, schedules

K = 50


@pytest.mark.parametrize('name', objectives.OBJECTIVES)
def test_a_network_that_says_the_target_gives_x0_back(name):
    objective = objectives.make(name, num_train_steps=K)
    keys = jax.random.split(jax.random.key(0), 3)
    x0 = jax.random.uniform(keys[0], (64, 3, 2), minval=-1.0)
    eps = jax.random.normal(keys[1], x0.shape)
    level = process.each(objective.draw(keys[2], len(x0)), x0)
    x = process.add_noise(x0, eps, level)
    found = objective.to_x0(objective.target(x0, eps, level), x, level)
    # float32 knows x_0 only to within eps / signal
    np.testing.assert_allclose(found, x0, atol=2e-3 if name == 'eps' else 2e-4)


@pytest.mark.parametrize('name', objectives.OBJECTIVES)
@pytest.mark.parametrize('num_steps', [1, 2, 10])
def test_grids_go_from_noise_to_data(name, num_steps):
    grid = objectives.make(name, num_train_steps=K).grid(num_steps)
    assert all(a.shape == (num_steps + 1,) and a.dtype == np.float32 for a in jax.tree.leaves(grid))
    assert (np.diff(grid.noise / np.maximum(grid.signal, 1e-9)) < 0).all()
    assert (grid.signal[-1], grid.noise[-1], grid.k[-1]) == (1, 0, 0)
    assert grid.noise[0] > 0.99 and grid.k[0] == pytest.approx(
        K - 1 if name in ('eps', 'x0', 'v') else 100.0
    )


@pytest.mark.parametrize('name', objectives.OBJECTIVES)
def test_levels_are_drawn_from_the_path(name):
    objective = objectives.make(name, num_train_steps=K)
    level = objective.draw(jax.random.key(0), 20_000)
    if name == 'flow':
        np.testing.assert_allclose(level.signal + level.noise, 1.0, atol=1e-6)
        np.testing.assert_allclose(level.k, 100.0 * level.noise, rtol=1e-5)
        assert abs(float(level.signal.mean()) - 0.5) < 0.01
    elif name == 'edm':
        assert (level.signal == 1).all()
        log = np.log(np.asarray(level.noise))
        assert abs(log.mean() + 1.2) < 0.04 and abs(log.std() - 1.2) < 0.03
    else:
        np.testing.assert_allclose(level.signal**2 + level.noise**2, 1.0, atol=1e-6)
        counts = np.bincount(np.asarray(level.k, int), minlength=K)
        assert counts.min() > 300 and counts.max() < 500  # 400 each
        alpha_bar = schedules.squared_cosine(K)[np.asarray(level.k, int)]
        np.testing.assert_allclose(level.signal**2, alpha_bar, atol=1e-6)


def test_edm_inputs_and_targets_have_unit_variance():
    """Table 1's preconditioning, for data of standard deviation SIGMA_DATA."""
    objective = objectives.make('edm')
    keys = jax.random.split(jax.random.key(0), 2)
    x0, eps = (jax.random.normal(key, (100_000,)) for key in keys)
    for sigma in (0.002, 0.1, 0.5, 3.0, 80.0):
        level = process.Level(jnp.ones(()), jnp.asarray(sigma), jnp.zeros(()))
        data = objectives.SIGMA_DATA * x0
        seen = process.add_noise(data, eps, level) * objective.scale(level)
        assert abs(float(seen.std()) - 1.0) < 0.01
        assert abs(float(objective.target(data, eps, level).std()) - 1.0) < 0.01


def test_v_is_the_rotation_of_salimans_and_ho():
    objective = objectives.make('v', num_train_steps=K)
    level = process.Level(jnp.asarray(0.6), jnp.asarray(0.8), jnp.asarray(3.0))
    x0, eps = jnp.asarray(2.0), jnp.asarray(-1.0)
    np.testing.assert_allclose(objective.target(x0, eps, level), 0.6 * -1.0 - 0.8 * 2.0)


@pytest.mark.parametrize('num_steps', [0, K + 1])
def test_more_steps_than_were_trained_are_refused(num_steps):
    with pytest.raises(ValueError, match=f'expected 1 to {K}.*found {num_steps}'):
        objectives.make('eps', num_train_steps=K).grid(num_steps)
    for name in ('edm', 'flow'):
        with pytest.raises(ValueError, match='at least 1, found 0'):
            objectives.make(name).grid(0)


@pytest.mark.parametrize('num_steps', [1, 2, 10, 999, 1000])
def test_timesteps_start_at_noise_and_never_repeat(num_steps):
    levels = objectives.timesteps(1000, num_steps)
    assert levels[0] == 999 and len(levels) == num_steps
    assert (np.diff(levels) < 0).all()
    assert num_steps == 1 or levels[-1] == 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"agent.objective: expected one of .*'flow'.*'score'"):
        objectives.make('score')
    with pytest.raises(ValueError, match=r"agent.schedule: .*'squared_cosine'.*found 'cosine'"):
        objectives.make('eps', 'cosine')
