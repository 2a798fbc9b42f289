"""A person's session, with a person who is a list of commands; and learning from what they did."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpolicy import types
from jaxpolicy.data import episodes, windows
from jaxpolicy.envs.render import console
from jaxpolicy.io import recipe_file
from jaxpolicy.runs import takeover
from jaxpolicy.types import Policy


class Scripted:
    """Takes over at the sixth step of an episode and moves up."""

    def __init__(self):
        self.shown = []

    def show(self, state):
        self.shown.append(np.asarray(state.obs))

    def command(self):
        step = len(self.shown) % 12
        return console.Command(step >= 6, (0.0, 0.0, 0.2), skip=step == 0)


@pytest.fixture(scope='module')
def recorded():
    config = recipe_file.load('configs/detour/bc.py')
    inits = []

    def init(obs):
        inits.append(obs)
        return ()

    quarter = jnp.full((1, 7), 0.25, jnp.float32)  # typed as a policy's: one program for all steps
    policy = Policy(init, lambda carry, obs, key: (carry, quarter, {}))
    found = list(takeover.session(config, policy, Scripted(), num_episodes=2, first_seed=3))
    assert [len(each.episode_ends) for each in found] == [1, 2]  # each can be saved
    assert len(inits) == 2  # the policy never got it back
    return found[-1]


def test_the_persons_steps_are_marked_and_move_the_tip(recorded):
    assert recorded.episode_ends.tolist() == [11, 22]
    tag = recorded.tags['intervention'].reshape(2, 11)
    np.testing.assert_array_equal(tag, np.tile([0] * 5 + [1] * 6, (2, 1)))
    np.testing.assert_array_equal(recorded.action.reshape(2, 11, 7)[:, :5], 0.25)
    height = recorded.obs[:, 23].reshape(2, 11)
    climb = np.diff(height[:, 6:], axis=1) / 0.05  # m/s, after the controllers' lag
    assert (climb[:, 2:] > 0.12).all() and (climb < 0.26).all()


def test_only_the_persons_actions_are_learnt(recorded):
    demos = recorded._replace(tags={})
    both = episodes.concatenate([demos, recorded])
    assert both.tags['intervention'].sum() == 22 + 12  # all of the demonstrations
    tagged = windows.make(recorded, 2, 4, 2, 'intervention')
    batch = windows.gather(tagged, jnp.arange(windows.num_windows(tagged)))
    assert batch.mask.any(1).all()
    assert (np.asarray(batch.action)[np.asarray(batch.mask)] != 0.25).any(-1).all()
    everything = windows.make(demos, 2, 4, 2)
    assert windows.num_windows(tagged) < windows.num_windows(everything)
    with pytest.raises(ValueError, match=r"data.tag: expected one of \[\], found 'intervention'"):
        windows.make(demos, 2, 4, 2, 'intervention')


def test_an_episode_that_breaks_is_left_out_and_counted(monkeypatch, capsys):
    """Of three, the second one breaks at its third step."""
    config, count = recipe_file.load('configs/detour/bc.py'), []
    state = types.EnvState(
        jnp.zeros((1, 27)), (), jnp.zeros(1), *(jnp.zeros(1, bool),) * 2, {}, jnp.zeros(1), ()
    )

    class World(NamedTuple):
        reset: Any = lambda key: state
        step: Any = lambda state, action: state

    def is_broken(*numbers):
        count.append(numbers)
        return np.array([len(count) == 5 + 3])

    monkeypatch.setattr(takeover.environment, 'make_env', lambda config: World())
    monkeypatch.setattr(takeover.auto_reset, 'broken', is_broken)
    monkeypatch.setattr(takeover, 'steering', lambda c: lambda obs, velocity: jnp.zeros(7))
    monkeypatch.setattr(takeover.jax, 'jit', lambda function: function)
    config.env.episode_steps = 5
    still = Policy(lambda obs: (), lambda carry, obs, key: (carry, jnp.zeros((1, 7)), {}))
    person = SimpleNamespace(show=lambda state: None, command=console.Command)
    *_, last = takeover.session(config, still, person, num_episodes=3, first_seed=3)
    assert last.episode_ends.tolist() == [5, 10] and len(last.obs) == 10
    assert last.info['broken_episodes'] == 1 and 'episode 4 broke' in capsys.readouterr().err


def test_keys_and_a_gamepad():
    keys = console.Keys()
    keys.press(265)
    assert keys.command() == console.Command(False, (console.SPEED, 0.0, 0.0))
    keys.press(console.SPACE)
    assert keys.command() == console.Command(True)
    command = keys.command((0.5, -1.0, 0.0, 0.02))
    np.testing.assert_allclose(command.velocity, (0.25, -0.125, -0.005))
    keys.press(console.BACKSPACE)
    assert keys.command((0.1,) * 4).skip and not keys.command().skip
    keys.press(console.ESCAPE)
    assert keys.command().quit
