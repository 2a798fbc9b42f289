"""The library without flags, files or directories, as the README shows it."""

import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpolicy
from jaxpolicy.runs import launch

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_LINES = 10


def snippet(name):
    """The code that the README shows under a name."""
    text = (ROOT / 'README.md').read_text()
    found = re.search(rf'<!-- snippet: {name} -->\s*```python\n(.*?)```', text, re.DOTALL)
    assert found, f'README.md has no snippet {name!r}'
    lines = [line for line in found[1].splitlines() if line.strip()]
    assert len(lines) <= MAX_LINES, f'{len(lines)} lines, at most {MAX_LINES}'
    return found[1]


@pytest.fixture(scope='module')
def demonstrations():
    """Episodes of 20 steps, each with one observation and the action that belongs to it."""
    rng = np.random.default_rng(0)
    obs = np.repeat(rng.uniform(-1, 1, size=(12, 3)), 20, axis=0).astype(np.float32)
    return obs, np.tanh(obs[:, :2]), np.arange(20, 241, 20)


def reset(key):
    """A point on a line, to be brought to 0."""
    x, no = jax.random.uniform(key, (1,), minval=-1.0), jnp.zeros((), bool)
    return jaxpolicy.EnvState(
        obs=x, next_obs=x, reward=jnp.zeros(()), termination=no, truncation=no, metrics={},
        key=key, sim=x,
    )  # fmt: skip


def step(state, action):
    x = jnp.clip(state.sim + 0.1 * action, -1.0, 1.0)
    return state.replace(obs=x, next_obs=x, reward=-jnp.abs(x[0]), sim=x)


def test_the_snippet_of_imitation_learns_saves_and_acts(demonstrations, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    obs, action, episode_ends = demonstrations
    code = snippet('imitation')
    sizes = 'num_epochs=300, batch_size=32, learning_rate=2e-3, width=64'
    small = code.replace('num_epochs=100', sizes)
    assert small != code
    scope = {'obs': obs, 'action': action, 'episode_ends': episode_ends}
    exec(small, scope)
    found = np.asarray(scope['action'])
    assert found.shape == (1, 2)
    np.testing.assert_allclose(found[0], demonstrations[1][0], atol=0.35)
    rows = scope['trained'].rows
    assert rows[-1]['mse'] < 0.6 * rows[0]['mse']


FIELDS = {'batch_size': 64, 'width': 16, 'num_blocks': 1, 'warmup_updates': 1, 'num_epochs': 4}


@pytest.fixture(scope='module')
def trained(demonstrations):
    return jaxpolicy.fit('bc', jaxpolicy.Episodes(*demonstrations), **FIELDS)


def test_the_learning_rate_decays_over_the_whole_run_without_being_told(demonstrations, trained):
    episodes = jaxpolicy.Episodes(*demonstrations)
    num_updates = int(trained.state.train.step)
    told = jaxpolicy.fit('bc', episodes, decay_updates=num_updates, **FIELDS)
    equal = jax.tree.map(np.array_equal, trained.state.train.params, told.state.train.params)
    assert jax.tree.all(equal)
    other = jaxpolicy.fit('bc', episodes, decay_updates=10**6, **FIELDS)
    equal = jax.tree.map(np.array_equal, trained.state.train.params, other.state.train.params)
    assert not jax.tree.all(equal)


def test_the_snippet_of_ppo_learns_ones_own_environment():
    scope = {'reset': reset, 'step': step, 'jnp': jnp, 'jax': jax, 'jaxpolicy': jaxpolicy}
    exec(snippet('ppo'), scope)
    rows = scope['trained'].rows
    assert rows[-1]['reward'] > 0.25 * rows[0]['reward'] and rows[-1]['reward'] > -0.1
    policy = scope['trained'].policy(num_robots=2)
    obs = np.array([[0.5], [-0.5]], np.float32)
    _, action, _ = policy.act(policy.init(obs), obs, jax.random.key(0))
    assert action[0] < 0 < action[1]


def test_what_is_saved_acts_as_what_was_trained(demonstrations, trained, tmp_path):
    jaxpolicy.save(tmp_path / 'policy', trained)
    obs, key = demonstrations[0][:2], jax.random.key(0)
    loaded, original = jaxpolicy.load(tmp_path / 'policy', num_robots=2), trained.policy(2)
    found, wanted = (p.act(p.init(obs), obs, key)[1] for p in (loaded, original))
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match='expected no run there, found one'):
        jaxpolicy.save(tmp_path / 'policy', trained)
    with pytest.raises(ValueError, match='expected a run to continue, found a policy'):
        launch.train(trained.config, tmp_path / 'policy', launch.Options())


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda e: jaxpolicy.fit('bc', e, num_epoch=1), "did you mean 'num_epochs'"),
        (lambda e: jaxpolicy.fit('ppo', e), 'expected one that learns from demonstrations'),
        (lambda e: jaxpolicy.fit('bcc', e), "did you mean 'bc'"),
        (lambda e: jaxpolicy.fit('bc', e._replace(action=2 * e.action + 1)), r'\[-1, 1\]'),
        (lambda e: jaxpolicy.fit('bc', e, width='wide'), 'width'),
    ],
)
def test_mistakes_are_one_clear_error(demonstrations, call, message):
    with pytest.raises(ValueError, match=message):
        call(jaxpolicy.Episodes(*demonstrations))


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (lambda s: s.replace(obs=jnp.zeros((2,))), 'reset: obs: expected'),
        (lambda s: s.replace(reward=jnp.zeros((1,))), 'reward: expected a scalar'),
        (lambda s: s.replace(termination=jnp.zeros(())), 'termination: expected bool'),
    ],
)
def test_an_environment_that_does_not_fit_together_is_refused(wrong, message):
    number = jax.ShapeDtypeStruct((1,), jnp.float32)
    env = jaxpolicy.Env(lambda key: wrong(reset(key)), step, jaxpolicy.Spec(number, number))
    with pytest.raises(ValueError, match=message):
        jaxpolicy.train('ppo', env, episode_steps=5)


def test_importing_the_package_is_quick_because_it_imports_nothing():
    code = (
        'import sys, jax; before = set(sys.modules); import jaxpolicy; '
        'print(*sorted(set(sys.modules) - before))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ['jaxpolicy'], done.stderr
