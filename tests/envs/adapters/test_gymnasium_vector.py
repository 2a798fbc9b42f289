"""Our environments through gymnasium: its checker, its conventions, and the same steps as ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import types
from jaxpolicy.envs.tasks import pendulum
from jaxpolicy.envs.wrap import time_limit, vectorize

gymnasium = pytest.importorskip('gymnasium')

from jaxpolicy.envs.adapters import gymnasium_vector  # noqa: E402

BREAK = 0.75  # an action that no test but one takes


def _count(limit: int = 3) -> types.Env:
    """Counts steps from a random start; ends below -10 and breaks where the action is BREAK."""

    def observe(x, steps):
        return {'x': x, 'steps': steps}

    def reset(key):
        x = jax.random.uniform(key, (2,))
        zero, no, steps = jnp.zeros(()), jnp.zeros((), bool), jnp.zeros((), jnp.int32)
        obs = observe(x, steps)
        return types.EnvState(obs, obs, zero, no, no, {'sum': zero}, key, (x, steps))

    def step(state, action):
        x, steps = state.sim
        x, steps = jnp.where(action[0] == BREAK, jnp.nan, x + action[0]), steps + 1
        obs, total = observe(x, steps), x.sum()
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=total,
            termination=total < -10.0,
            truncation=jnp.zeros((), bool),
            metrics={'sum': total},
            sim=(x, steps),
        )

    obs = observe(jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32))
    spec = types.Spec(obs, jax.ShapeDtypeStruct((1,), jnp.float32))
    return time_limit.time_limit(types.Env(reset, step, spec), limit)


def test_which_tasks_gymnasium_is_told_of():
    names = ('cartpole', 'detour', 'pendulum', 'pick', 'pusht', 'reach')
    assert gymnasium_vector.register() == [f'jaxpolicy/{name}-v0' for name in names]
    with pytest.raises(ValueError, match="expected an env on the device, found 'pusht_gym'"):
        gymnasium_vector.make('pusht_gym')


@pytest.mark.filterwarnings('ignore:.*WARN')
def test_gymnasium_checks_the_single_environment():
    from gymnasium.utils import env_checker

    (name,) = gymnasium_vector.register('reach')
    env = gymnasium.make(name, num_dof=6)
    assert env.observation_space.shape == (27,) and env.action_space.shape == (6,)
    (name,) = gymnasium_vector.register('pendulum')  # it compiles quickly
    env = gymnasium.make(name, episode_steps=50)
    env_checker.check_env(env.unwrapped, skip_render_check=True)
    env_checker.check_env(gymnasium_vector.SingleEnv(_count(50)), skip_render_check=True)


def test_a_vector_takes_our_steps():
    (name,) = gymnasium_vector.register('pendulum')
    envs = gymnasium.make_vec(name, num_envs=3, episode_steps=5)
    assert envs.metadata['autoreset_mode'] is gymnasium.vector.AutoresetMode.SAME_STEP
    assert envs.spec.id == 'jaxpolicy/pendulum-v0'
    obs, infos = envs.reset(seed=7)
    env = vectorize.vectorize(pendulum.make(pendulum.Config()))
    state = jax.jit(env.reset)(jnp.stack([jax.random.key(s) for s in (7, 8, 9)]))
    step = jax.jit(env.step)
    np.testing.assert_array_equal(obs, state.obs)
    assert obs in envs.observation_space and infos == {}
    envs.action_space.seed(0)
    for t in range(5):
        action = envs.action_space.sample()
        state = step(state, action)
        obs, rewards, terminations, truncations, infos = envs.step(action)
        np.testing.assert_allclose(rewards, state.reward, atol=1e-6)
        assert not terminations.any() and (truncations == (t == 4)).all()
        if t < 4:
            np.testing.assert_allclose(obs, state.obs, atol=1e-6)
            np.testing.assert_array_equal(infos['success'], state.metrics['success'])
    np.testing.assert_allclose(np.stack(infos['final_obs']), state.next_obs, atol=1e-6)
    assert obs in envs.observation_space and not np.allclose(obs, state.next_obs, atol=1e-2)


def test_infos_and_types_are_those_of_gymnasiums_own_vector_environment():
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    single = [lambda: gymnasium_vector.SingleEnv(_count())] * 2
    theirs = gymnasium.vector.SyncVectorEnv(single, autoreset_mode=mode)
    ours = gymnasium_vector.VectorEnv(_count(), 2)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for a, b in zip(ours.reset(seed=3)[0].values(), theirs.reset(seed=3)[0].values(), strict=True):
        np.testing.assert_array_equal(a, b)
    for value in (0.5, -9.0, 0.5, 0.5):  # the second one ends all
        action = np.full((2, 1), value, np.float32)
        found, wanted = ours.step(action), theirs.step(action)
        assert [type(x) for x in found] == [type(x) for x in wanted]
        for a, b in zip(found[1:4], wanted[1:4], strict=True):
            assert a.dtype == b.dtype
        infos = {name: x for name, x in found[4].items() if 'nan_world' not in name}
        assert set(infos) == set(wanted[4]) | {'sum', '_sum'}
        if value == -9.0:
            for a, b in zip(infos['final_obs'], wanted[4]['final_obs'], strict=True):
                jax.tree.map(np.testing.assert_array_equal, a, b)
            np.testing.assert_allclose(infos['final_info']['sum'], wanted[4]['final_info']['sum'])
            assert not infos['_sum'].any() and found[2].all() and not found[3].any()
            break
        jax.tree.map(np.testing.assert_array_equal, found[:4], wanted[:4])
        np.testing.assert_array_equal(infos['sum'], wanted[4]['sum'])


def test_only_what_ended_starts_anew_and_every_start_is_fresh():
    envs = gymnasium_vector.VectorEnv(_count(2), 4)
    first, _ = envs.reset(seed=0)
    action = np.array([[-9.0], [0.0], [0.0], [0.0]], np.float32)
    obs, _, terminations, truncations, infos = envs.step(action)
    assert terminations.tolist() == [True, False, False, False] and not truncations.any()
    assert obs['steps'].tolist() == [0, 1, 1, 1]
    np.testing.assert_array_equal(obs['x'][1:], first['x'][1:])
    assert [x is None for x in infos['final_obs']] == [False, True, True, True]
    np.testing.assert_allclose(infos['final_obs'][0]['x'], first['x'][0] - 9.0)
    assert infos['final_info']['_sum'].tolist() == [True, False, False, False]
    starts = [tuple(x) for x in first['x']] + [tuple(obs['x'][0])]
    for _ in range(20):
        obs, _, _, truncations, _ = envs.step(np.zeros((4, 1), np.float32))
        starts += [tuple(x) for x in obs['x'][truncations]]
    assert len(starts) > 40
    assert len(set(starts)) > 0.6 * len(starts)  # a pool of 4 is drawn from with replacement


def test_seeds_repeat_a_run_and_no_seed_goes_on():
    envs = gymnasium_vector.VectorEnv(_count(), 2)

    def run(seed):
        found = [envs.reset(seed=seed)[0]['x']]
        found += [envs.step(np.zeros((2, 1), np.float32))[0]['x'] for _ in range(8)]
        return np.stack(found)

    np.testing.assert_array_equal(run(5), run(5))
    assert not np.array_equal(run(5), run(6))
    assert not np.array_equal(run(None)[0], run(None)[0])
    np.testing.assert_array_equal(envs.reset(seed=[6, 5])[0]['x'][1], run(5)[0, 0])
    for bad in (-1, [3, -1], 1.5):
        with pytest.raises(ValueError, match='expected an integer of at least 0'):
            envs.reset(seed=bad if isinstance(bad, list) else [bad] * 2)
    with pytest.raises(ValueError, match='expected an integer of at least 0, found -2'):
        envs.reset(seed=-2)
    with pytest.raises(ValueError, match='expected 2 seeds'):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match='reset_mask'):
        envs.reset(options={'reset_mask': np.ones(2, bool)})
    with pytest.raises(ValueError, match=r'expected shape \(2, 1\), found \(2, 2\)'):
        envs.step(np.zeros((2, 2)))


def test_any_seed_starts_the_same_episode_in_both():
    """Gymnasium's seeds have no upper bound; neighbours differ on either side of 2**32."""
    envs, env = gymnasium_vector.VectorEnv(_count(), 3), gymnasium_vector.SingleEnv(_count())
    starts = []
    for seed in (0, 2**32 - 2, 2**70, np.int64(5)):
        many = envs.reset(seed=seed)[0]['x']
        singles = [env.reset(seed=int(seed) + i)[0]['x'] for i in range(3)]
        np.testing.assert_array_equal(many, singles)
        starts += [tuple(start) for start in singles]
    assert len(set(starts)) == len(starts)
    with pytest.raises(ValueError, match='expected an integer of at least 0, found -1'):
        env.reset(seed=-1)


def test_a_broken_world_ends_and_is_reported():
    envs = gymnasium_vector.VectorEnv(_count(), 2)
    envs.reset(seed=0)
    obs, rewards, terminations, _, infos = envs.step(np.array([[BREAK], [0.0]], np.float32))
    assert terminations.tolist() == [True, False] and rewards[0] == 0.0
    assert np.isfinite(obs['x']).all() and np.isfinite(infos['final_obs'][0]['x']).all()
    assert infos['final_info']['nan_world'].tolist() == [1.0, 0.0]


def test_gymnasiums_vector_wrappers_count_episodes():
    envs = gymnasium_vector.VectorEnv(_count(3), 2)
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    envs.reset(seed=0)
    for _ in range(3):
        infos = envs.step(np.zeros((2, 1), np.float32))[-1]
    assert infos['episode']['l'].tolist() == [3, 3]


def test_pictures():
    env = gymnasium_vector.make('pendulum', render_mode='rgb_array')
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (480, 640, 3) and picture.std() > 1.0
    assert gymnasium_vector.make('pendulum').render() is None
    envs = gymnasium_vector.make_vec('pendulum', render_mode='rgb_array')
    assert envs.metadata['render_fps'] == env.metadata['render_fps'] == 20
    with pytest.raises(ValueError, match="episode_step: expected a field of 'pendulum'"):
        gymnasium_vector.make('pendulum', episode_step=3)
