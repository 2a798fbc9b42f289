"""The config's shaped rewards and goals in hindsight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy.io import workdir
from jaxpolicy.runs import environment, kinds, recipe, rewards, upgrade

LINE = 'tests.commands.line'


def _config(env='reach', make=recipe.off_policy, agent='sac', **changes):
    config = make(agent, env)
    config.agent.gamma = 0.9
    if make is recipe.off_policy:
        config.loop.num_envs, config.loop.buffer_size = 2, 8_000
    config.update_from_flattened_dict(changes)
    return config


def _play(config, num_steps):
    env = environment.make_env(config)
    step, state = jax.jit(env.step), jax.jit(env.reset)(jax.random.split(jax.random.key(0), 2))
    states = [state]
    for _ in range(num_steps):
        states.append(step(states[-1], jnp.full((2, *env.spec.action.shape), 0.5)))
    return jax.tree.map(lambda *x: jnp.stack(x), *states)


def test_shaping_rewards_coming_closer():
    """phi = -scale |achieved - wanted|, also at the time limit, where the task's reward stays."""
    steps = {'env.episode_steps': 3, 'env.speed': 0.01}  # too slow to arrive
    states = _play(_config(LINE, **steps, **{'shaping.scale': 2.0}), 3)
    assert states.truncation[-1].all() and not states.termination.any()
    phi = -2.0 * np.abs(states.obs[..., 0])
    task = states.metrics['task_reward']
    np.testing.assert_allclose(states.reward[1:], task[1:] + 0.9 * phi[1:] - phi[:-1], atol=1e-5)
    plain = _play(_config(LINE, **steps), 3)
    assert (np.abs(plain.reward[1:]) > 0.004).all()
    np.testing.assert_array_equal(plain.reward, task)
    np.testing.assert_array_equal(plain.obs, states.obs)
    assert 'task_reward' not in plain.metrics


def test_shaping_is_there_for_ppo_and_absent_from_older_configs():
    def shows_task_reward(config):
        keys = jax.random.split(jax.random.key(0), 2)
        return 'task_reward' in jax.eval_shape(environment.make_env(config).reset, keys).metrics

    config = _config(LINE, recipe.on_policy, 'ppo', **{'shaping.scale': 1.0})
    assert shows_task_reward(config)
    config.shaping.scale = 0.0
    assert not shows_task_reward(config)
    record = {'config': config.to_dict(), 'seed': 0}
    del record['config']['shaping']
    config = workdir.from_json(upgrade.upgrade(record)['config'])
    assert config.shaping.scale == 0.0 and not shows_task_reward(config)


def test_hindsight_is_made_where_it_is_asked_for():
    def made(**changes):
        config = _config(**changes)
        return rewards.for_hindsight(config, *environment.on_device(config))

    assert made() is None
    sparse = {'env.reward': 'sparse', 'loop.hindsight_share': 0.8}
    found = made(**sparse)
    obs = jnp.arange(30.0)
    np.testing.assert_array_equal(found.wanted(obs), [24.0, 25.0, 26.0])
    near = found.replace(obs, jnp.array([21.0, 22.0, 23.04]))
    assert float(found.reward(near)) == 1.0
    assert float(made(**sparse, **{'env.tolerance': 0.03}).reward(near)) == 0.0
    assert kinds.make_run(_config(**sparse)).num_rounds > 0


@pytest.mark.parametrize(
    ('env', 'changes', 'message'),
    [
        ('reach', {'shaping.scale': -1.0}, 'config.shaping.scale: expected at least 0, found -1.0'),
        ('pendulum', {'shaping.scale': 1.0}, 'env.name: .* reach or pick, for shaping.scale'),
        (
            'reach',
            {'shaping.scale': 1.0, 'imitate.path': 'x'},
            'config.imitate.path: expected none',
        ),
        (
            'pendulum',
            {'loop.hindsight_share': 0.5},
            'env.name: .* reach or pick, for loop.hindsight_share',
        ),
        ('reach', {'loop.hindsight_share': 0.5}, "env.reward: expected 'sparse' .* found 'dense'"),
        ('reach', {'loop.hindsight_share': 1.5, 'env.reward': 'sparse'}, 'expected 0 to 1'),
        *(
            ('reach', {'loop.hindsight_share': 0.5, 'env.reward': 'sparse', key: value}, key)
            for key, value in (
                ('shaping.scale', 1.0),
                ('disturb.obs_delay', (0, 1)),
                ('disturb.obs_noise', 0.1),
                ('disturb.hidden', (0,)),
            )
        ),
    ],
)
def test_what_does_not_fit_is_refused(env, changes, message):
    config = _config(env)
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        kinds.make_run(config)
