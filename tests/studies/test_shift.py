"""The distribution-shift suite from a run to its table, at toy size."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.studies.shift import __main__ as shift
from experiments.studies.shift import host, measure, report, table
from jaxpolicy import envs, types
from jaxpolicy.data import episodes
from jaxpolicy.envs.adapters import pusht_gym
from jaxpolicy.envs.tasks import pusht
from jaxpolicy.envs.wrap import time_limit, truth, vectorize
from jaxpolicy.io import recipe_file
from jaxpolicy.ops import distances
from jaxpolicy.runs import launch, recipe
from tests import fork

SEEDS = np.arange(8, dtype=np.uint32) + np.uint32(500_000)
NAMES = ('obs_noise', 'control_rate')
STEPS = 6


LINE = 'tests.commands.line'
DETOUR = pytest.param('detour', marks=pytest.mark.slow)  # its program takes long to compile


@pytest.fixture(params=[LINE, DETOUR])
def task(request, monkeypatch):
    """The task's name; the line has a few of detour's shifts."""
    few = {name: table.SHIFTS['detour'][name] for name in ('none', 'latency', *NAMES)}
    monkeypatch.setitem(table.SHIFTS, LINE, few)
    return request.param


@pytest.fixture
def workdirs(task, detour_demos, line_demos, tmp_path_factory):
    """Two policies of one architecture."""
    root = tmp_path_factory.mktemp('shift')
    for seed, name in enumerate(('a', 'b')):
        config = recipe_file.load('configs/detour/bc.py')
        config.data.path = str(detour_demos)
        if task == LINE:
            config.env = recipe.offline('bc', LINE, 'episodes', '').env
            config.env.speed, config.data.path = 0.01, str(line_demos)  # nobody arrives
            config.eval.metrics = ('return', 'success_max', 'length')
        config.env.episode_steps = STEPS
        config.agent.width, config.agent.num_blocks = 16, 1
        config.loop.batch_size = 16
        config.eval.every, config.loop.num_epochs, config.loop.epochs_per_round = 0, 1, 1
        assert launch.train(config, root / name, launch.Options(seed, num_devices=1))
    return [str(root / name) for name in ('a', 'b')]


def measure_all(workdirs, out):
    loaded = shift.load(workdirs, 'latest')
    shifts = shift.choose(loaded[0].shifts, NAMES, ())
    shown = measure.demonstrations(loaded, None)
    return shift.measure_all(shifts, loaded, shown, SEEDS, report.Rows(out / 'shift.json'))


def test_two_policies_side_by_side_and_nothing_twice(task, workdirs, tmp_path, monkeypatch):
    programs = []
    make_run = measure.make_run
    with monkeypatch.context() as patch:
        patch.setattr(measure, 'make_run', lambda *a: programs.append(a) or make_run(*a))
        rows = measure_all(workdirs, tmp_path)
    assert len(programs) == 1  # one architecture, one program for all
    assert len(rows) == 2 * (1 + 4 + 3)
    assert json.loads((tmp_path / 'shift.json').read_text()) == rows
    for row in rows:
        assert row['num_episodes'] == 8 and row['data'] == 'demos.npz, 64 steps'
        assert 0 <= row['low'] <= row['success'] <= row['high'] <= 1
        assert row['knn'] > 0 and row['mahalanobis'] > 0
    one, two = (
        [row for row in rows if row['policy'] == name and row['shift'] == 'control_rate']
        for name in ('a', 'b')
    )
    # nobody succeeds or fails in six decisions: an episode lasts as long as they take
    assert [row['time_to_failure_s'] for row in one] == pytest.approx([0.6, 1.2, 2.4])
    assert [row['knn'] for row in one] != [row['knn'] for row in two]

    monkeypatch.setattr(measure, 'make_run', None)  # not called
    assert measure_all(workdirs, tmp_path) == rows
    other = workdirs[0], measure.demonstrations(shift.load(workdirs, 'latest'), None)
    assert_measured_anew(other, tmp_path, rows, monkeypatch)
    report.write(tmp_path, rows, table.SHIFTS[task])
    lines = (tmp_path / 'shift.md').read_text().splitlines()
    assert lines[2] == '| shift | severity | a | b |' and len(lines) == 4 + 1 + 4 + 3
    assert lines[5].startswith('| obs_noise | 0.03 standard deviations | 0.000 [0.000, ')
    assert (tmp_path / 'shift.png').stat().st_size > 10_000


def assert_measured_anew(other, out, rows, monkeypatch):
    """Where anything that defines a row is another thing, the row is not taken again."""
    directory, shown = other
    measured = []

    def make_run(policy, scale, seeds):
        measured.append(policy)
        raise StopIteration

    monkeypatch.setattr(measure, 'make_run', make_run)
    (policy,) = shift.load([directory], 'latest')
    shifts = shift.choose(policy.shifts, ['control_rate'], ())
    cases = [
        (policy._replace(weights='other'), shown, SEEDS),
        (policy._replace(code='other'), shown, SEEDS),
        (policy._replace(chosen='other'), shown, SEEDS),
        (policy, shown._replace(fingerprint='other'), SEEDS),
        (policy, shown, SEEDS + np.uint32(1)),
        (policy, shown, SEEDS[:4]),
    ]
    for case, (policy, shown, seeds) in enumerate(cases):
        with pytest.raises(StopIteration):
            shift.measure_all(shifts, [policy], shown, seeds, report.Rows(out / 'shift.json'))
        assert len(measured) == case + 1
    kept = report.Rows(out / 'shift.json')
    new = {**rows[0], 'weights': 'other'}
    kept.add(new)  # it replaces the old one, and stands beside the others
    assert len(kept.all) == len(rows) and kept.all[-1] == new


@pytest.fixture(scope='module')
def push_t(tmp_path_factory):
    """A policy of Push-T."""
    root, rng = tmp_path_factory.mktemp('push_t'), np.random.default_rng(0)
    obs, action = rng.normal(size=(64, 20)), rng.uniform(-1, 1, size=(64, 2))
    arrays = (obs.astype(np.float32), action.astype(np.float32), np.array([32, 64]))
    episodes.save(root / 'demos.npz', episodes.Episodes(*arrays, {}))
    config = recipe_file.load('configs/smoke/bc.py')
    config.data.path, config.eval.every, config.loop.num_epochs = str(root / 'demos.npz'), 0, 1
    assert launch.train(config, root / 'run', launch.Options(num_devices=1))
    return str(root / 'run')


def test_mistakes_end_in_one_line(push_t):
    arguments = (f'--workdir={push_t}', '--shifts=obs_nois', '--checkpoint=latest')
    done = fork.run('studies.shift', *arguments)
    assert done.returncode == 1 and "found 'obs_nois'" in done.stderr
    assert done.stderr.count('\n') == 1 and 'shift: error: --shifts: expected some' in done.stderr


# The shifts of reach are also detour's.
ON_DEVICE = ['detour', 'pick', 'pusht', pytest.param('reach', marks=pytest.mark.slow)]


@pytest.mark.parametrize('name', ON_DEVICE)
def test_a_step_of_a_shifted_task_keeps_all_shapes_and_types(name):
    task, shifts = envs.resolve(name), table.SHIFTS[name]
    fields = {'backend': 'native'} if name == 'pick' else {}  # as on one CPU, sooner traced
    config = task.module.Config(**fields)
    size = task.make(config).spec.obs.shape

    def make(strength):
        scale = table.Scale(jnp.zeros(size), jnp.ones(size))
        return table.make_env(task, config, (0,), shifts, strength, scale)

    def step(strength, state):
        env = make(strength)
        return env.step(state, jnp.zeros(env.spec.action.shape))

    strength = table.strengths(shifts, 'latency', 2.0)
    state = jax.eval_shape(lambda s: make(s).reset(jax.random.key(0)), strength)
    assert jax.eval_shape(step, strength, state) == state
    assert jax.eval_shape(truth.truth, state).shape == size


def test_the_shifts_of_every_task_are_tested():
    assert set(table.SHIFTS) == {'detour', 'pick', 'pusht', 'reach', 'pusht_gym'}
    assert set(table.SHIFTS['reach'].items()) <= set(table.SHIFTS['detour'].items())


def test_nominal_strengths_change_nothing():
    """Push-T with all its shifts at nothing is Push-T, but for how its program rounds."""
    task, shifts = envs.resolve('pusht'), table.SHIFTS['pusht']
    config = pusht.Config(obs='state', episode_steps=STEPS)
    scale = table.Scale(jnp.zeros(5), jnp.ones(5))
    plain = time_limit.time_limit(pusht.make(config), STEPS)

    def last(env):
        def step(state, t):
            state = env.step(state, jnp.array([0.5, -0.5]) * t / STEPS)
            return state, None

        state = jax.lax.scan(step, env.reset(jax.random.key(3)), jnp.arange(STEPS))[0]
        return state.obs, state.next_obs, state.metrics['coverage'], state.truncation

    def shifted():
        strength = table.strengths(shifts, 'none', 0.0)
        return last(table.make_env(task, config, (), shifts, strength, scale))

    wanted = jax.jit(lambda: last(plain))()
    for a, b in zip(jax.jit(shifted)(), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_an_episode_counts_until_its_end():
    """On an environment that succeeds at its third step, in one world of two."""

    def step(state, action):
        time = state.sim.obs[0] + 1
        won = (time >= 3) & (state.sim.obs[1] > 0)
        obs = state.sim.obs.at[0].set(time)
        metrics = {'success': won.astype(jnp.float32), 'env_steps': jnp.ones(())}
        return state.replace(
            obs=obs,
            next_obs=obs,
            metrics=metrics,
            termination=won,
            sim=truth.Truth(obs, ()),
        )

    def reset(key):
        lucky = jax.random.key_data(key)[-1].astype(jnp.float32)
        obs, no = jnp.zeros(5).at[1].set(lucky), jnp.zeros((), bool)
        metrics = {'success': jnp.zeros(()), 'env_steps': jnp.zeros(())}
        sim = truth.Truth(obs, ())
        return types.EnvState(obs, obs, jnp.zeros(()), no, no, metrics, key, sim)

    spec = types.Spec(*(jax.ShapeDtypeStruct((n,), jnp.float32) for n in (5, 2)))
    batch = vectorize.vectorize(types.Env(reset, step, spec))
    still = types.Policy(lambda obs: (), lambda c, obs, key: (c, jnp.zeros((2, 2)), {}))
    keys = jax.vmap(jax.random.key)(np.array([0, 1]))
    found = measure.play(batch, still, keys, jax.random.key(0), 5)
    np.testing.assert_array_equal(found.success, [0, 1])
    np.testing.assert_array_equal(found.env_steps, [5, 3])
    np.testing.assert_array_equal(found.valid.sum(0), [5, 3])
    np.testing.assert_array_equal(found.states[:, 0, 0], [1, 2, 3, 4, 5])


def test_broken_episodes_are_left_out_and_counted():
    scale = table.Scale(jnp.zeros(2), jnp.ones(2))
    gaussian = distances.fit_gaussian(jnp.eye(2), 1e-4)
    shown = measure.Demonstrations(scale, jnp.zeros((4, 2)), gaussian, 'demos', 'crc')
    states, valid = np.ones((3, 3, 2)), np.ones((3, 3), bool)
    states[:, 2] = np.nan
    success, steps = np.array([1.0, 0.0, 1.0]), np.array([3.0, 3.0, 0.0])
    broken = np.array([False, False, True])
    policy, name = SimpleNamespace(hz=10.0), {'policy': 'a', 'shift': 'none', 'severity': 0.0}
    row = measure.row(measure.Outcome(success, steps, broken, states, valid), policy, shown)
    assert row['success'] == 0.5 and row['broken_episodes'] == 1
    assert row['time_to_failure_s'] == pytest.approx(0.3) and row['knn'] > 0
    assert report.line(name | row).endswith('; 1 broke')
    lost = measure.row(
        measure.Outcome(success, steps, ~broken | broken, states, valid), policy, shown
    )
    assert lost['success'] is None and lost['broken_episodes'] == 3
    assert report.line(name | lost).endswith('all 3 episodes broke')


def host_env(**strength):
    """Two shifted simulators of gym-pusht, and their true states."""
    nominal = {name: s.nominal for name, s in table.SHIFTS['pusht_gym'].items()}
    scale = table.Scale(np.full(5, -7.0), np.full(5, 2.0))  # pyright: ignore
    config = pusht_gym.Config(obs='state')
    return host.make_env(config, (4,), nominal | strength, scale)


def test_simulators_outside_are_shifted_as_well():
    pytest.importorskip('gym_pusht')
    plain = pusht_gym.make_host(pusht_gym.Config(obs='state'))
    seeds, action = [100_000, 100_001], np.zeros((2, 2))
    first, second = plain.reset(seeds), plain.step(action)[0]

    env, states = host_env()
    np.testing.assert_array_equal(env.reset(seeds)[:, :4], first[:, :4])
    seen = env.step(action)[0]
    np.testing.assert_array_equal(seen[:, :4], second[:, :4])
    np.testing.assert_array_equal(seen[:, 4], 0.0)  # hidden
    np.testing.assert_array_equal(states[0], second)

    env, states = host_env(latency=1, obs_dropout=1.0)
    np.testing.assert_array_equal(env.reset(seeds)[:, :4], -7.0)
    env.step(action)
    np.testing.assert_allclose(states[0][:, :2], first[:, :2], atol=1e-3)  # it stays
    env.step(action)
    assert np.abs(states[1][:, :2] - first[:, :2]).max() > 1.0

    env, states = host_env(control_rate=3, obs_bias=1.0, starts=20.0)
    bias = env.reset(seeds)[:, :4] - first[:, :4]
    assert np.abs(pusht_gym.initial_state(seeds[0], 170.0)[2:4] - 250.0).max() == 170.0
    assert np.abs(bias).min() > 0
    one, two = ((env.step(action)[0] - states[-1])[:, :4] for _ in range(2))
    np.testing.assert_allclose(one, two, atol=1e-3)  # the bias is that of the episode


def test_a_run_of_push_t_in_its_simulator(push_t, tmp_path):
    pytest.importorskip('gym_pusht')
    loaded = shift.load([push_t], 'latest', on_host=True)
    shifts = shift.choose(loaded[0].shifts, ['control_rate'], ['2'])
    shown = measure.demonstrations(loaded, None)
    rows = shift.measure_all(shifts, loaded, shown, SEEDS[:2], report.Rows(tmp_path / 's.json'))
    assert [row['time_to_failure_s'] for row in rows] == pytest.approx([0.3, 0.3])
    with pytest.raises(ValueError, match="--shifts: expected some of .* found 'push'"):
        shift.choose(loaded[0].shifts, ['push'], ())
