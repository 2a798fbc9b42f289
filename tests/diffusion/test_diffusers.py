"""Our samplers beside the schedulers of diffusers, on the same levels with the same noise.

Needs PyTorch and diffusers: `pip install 'jaxpolicy[bench]'`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.diffusion import objectives, process, samplers, schedules

diffusers = pytest.importorskip('diffusers', reason="needs the extra 'bench'")
torch = pytest.importorskip('torch', reason="needs the extra 'bench'")

K = 100
SCHEDULE = {'num_train_timesteps': K, 'beta_schedule': 'squaredcos_cap_v2'}
START = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
KEY = jax.random.key(7)


def _eps(x, k, lib):
    """A smooth function in place of a network."""
    return lib.tanh(0.8 * x) + 0.2 * lib.sin(3.0 * x + 0.02 * k)


def _grid(timesteps, alpha_bar):
    chosen = alpha_bar[np.asarray(timesteps)]
    k = np.asarray(timesteps, np.float32)
    return objectives.with_data(process.Level(np.sqrt(chosen), np.sqrt(1.0 - chosen), k))


def _predict(x, level):
    return (x - level.noise * _eps(x, level.k, jnp)) / level.signal


def _noise(i):
    return torch.tensor(np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), START.shape)))


def _theirs(scheduler, **options):
    x = torch.tensor(START)
    for i, k in enumerate(scheduler.timesteps):
        more = {name: make(i) for name, make in options.items()}
        x = scheduler.step(_eps(x, float(k), torch), k, x, **more).prev_sample
    return x.numpy()


def _assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1.0, np.abs(theirs).max()))


def test_the_schedule_is_theirs():
    theirs = diffusers.DDPMScheduler(**SCHEDULE).alphas_cumprod.numpy()
    np.testing.assert_allclose(schedules.squared_cosine(K), theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize('num_steps', [5, 10, 100])
@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
def test_ddim(num_steps, eta):
    scheduler = diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False)
    scheduler.set_timesteps(num_steps)
    grid = _grid(scheduler.timesteps, scheduler.alphas_cumprod.numpy())
    ours = samplers.sample(samplers.make_ddim(eta), _predict, jnp.asarray(START), grid, KEY)
    theirs = _theirs(scheduler, eta=lambda i: eta, variance_noise=_noise)
    _assert_close(ours, theirs)


def test_ddpm(monkeypatch):
    scheduler = diffusers.DDPMScheduler(**SCHEDULE, clip_sample=False, variance_type='fixed_small')
    scheduler.set_timesteps(K)
    count = iter(range(K))
    monkeypatch.setattr(
        'diffusers.schedulers.scheduling_ddpm.randn_tensor', lambda *_, **__: _noise(next(count))
    )
    theirs = _theirs(scheduler)
    grid = _grid(scheduler.timesteps, scheduler.alphas_cumprod.numpy())
    _assert_close(samplers.sample(samplers.ddpm, _predict, jnp.asarray(START), grid, KEY), theirs)


@pytest.mark.parametrize('num_steps', [2, 5, 10, 25])
def test_dpm_solver(num_steps):
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SCHEDULE, algorithm_type='dpmsolver++', solver_order=2, final_sigmas_type='zero'
    )
    scheduler.set_timesteps(num_steps)
    grid = _grid(scheduler.timesteps, scheduler.alphas_cumprod.numpy())
    ours = samplers.sample(samplers.dpmpp_2m, _predict, jnp.asarray(START), grid, KEY)
    _assert_close(ours, _theirs(scheduler))
