"""Our environments behind gymnasium's interface, so that other libraries can train on them.

    gymnasium_vector.register()  # once
    envs = gymnasium.make_vec('jaxpolicy/reach-v0', num_envs=1024)

N environments are one program on the device; NumPy arrays go in and come out. An environment starts
anew in the very step that ends its episode (`AutoresetMode.SAME_STEP`). There `step` returns the
first observation of the next episode, and info['final_obs'] has the observation after the last
action, from which a learner bootstraps where the episode was truncated.
`gymnasium.make('jaxpolicy/reach-v0')` is a single environment, which its caller resets.

Infos hold the environment's metrics as those of gymnasium's own vector environments do: info[name]
[N] with the mask info['_' + name]. Those of episodes that ended are in info['final_info'].
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import envs, ranges, registry
from jaxpolicy.envs.wrap import auto_reset, time_limit, vectorize
from jaxpolicy.types import Env, EnvState, Spec, is_discrete

try:
    import gymnasium
    from gymnasium import spaces, vector
    from gymnasium.vector import utils
except ImportError as error:
    raise ImportError(
        f"gymnasium_vector needs gymnasium: pip install 'jaxpolicy[gymnasium]' ({error})"
    ) from error

PyTree = Any
Render = Callable[[EnvState], np.ndarray]  # states [T] -> uint8 [T, H, W, 3]

_HEIGHT, _WIDTH = 480, 640  # px, size of pictures
_NUM_SEEDS = 2**31
_CONTROL_HZ = 20.0  # pictures per second, for a task without `control_hz`
_TASKS = 'jaxpolicy.envs.tasks.'


class VectorEnv(vector.VectorEnv):
    """N environments as one vector environment, on the device.

    With reset(seed=s), environment i starts as the single environment does with seed s + i.

    Args:
      env: unbatched and time-limited.
      num_envs: N.
      render: draws the states of all N environments for `render()`.
      control_hz: steps in a second.
    """

    def __init__(
        self,
        env: Env,
        num_envs: int,
        render: Render | None = None,
        control_hz: float = _CONTROL_HZ,
    ) -> None:
        self.num_envs, self._spec = num_envs, env.spec
        self.single_observation_space = space(env.spec.obs)
        self.single_action_space = action_space(env.spec)
        self.observation_space = utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = utils.batch_space(self.single_action_space, num_envs)
        self.metadata = {
            'autoreset_mode': vector.AutoresetMode.SAME_STEP,
            'render_modes': ['rgb_array'],
            'render_fps': round(control_hz),
        }
        self.render_mode = 'rgb_array' if render else None
        self._render = render
        batch = vectorize.vectorize(env)
        self._draw = jax.jit(lambda seeds: batch.reset(jax.vmap(jax.random.key)(seeds)))
        self._step = jax.jit(
            lambda state, pool, x: auto_reset.auto_reset(batch, pool).step(state, x)
        )
        self._state: EnvState | None = None
        self._pool: EnvState | None = None  # fresh starts; used up when N episodes have ended
        self._num_ended = 0

    def reset(self, *, seed: int | Sequence[int] | None = None, options: dict | None = None):
        """Starts new episodes in all environments; returns (obs [N, ...], {}).

        Args:
          seed: the seed of the first environment, while the others get the next numbers; or one
            seed for each; or None to go on at random.

        Raises:
          ValueError: there are not N seeds, one is negative or no integer, or options has
            'reset_mask'.
        """
        if options and 'reset_mask' in options:
            raise ValueError(
                "options['reset_mask']: expected none, environments restart themselves"
            )
        if seed is None:
            seeds = self._random_seeds()
        else:
            one = isinstance(seed, int | np.integer)
            numbers = range(int(seed), int(seed) + self.num_envs) if one else list(seed)
            if len(numbers) != self.num_envs:
                raise ValueError(f'seed: expected {self.num_envs} seeds, found {len(numbers)}')
            seeds = np.array([_seed(number) for number in numbers], np.uint32)
            super().reset(seed=int(numbers[0]))
        state = self._draw(seeds)
        metrics = state.metrics | {'nan_world': jnp.zeros_like(state.reward)}
        self._state = state.replace(metrics=metrics)
        self._refill()
        return _numpy(state.obs), {}

    def step(self, actions):
        """Steps all; returns (obs, rewards, terminations, truncations, infos), see the module.

        A world with a number that is not finite ends with reward 0 and metric `nan_world` 1.

        Raises:
          ValueError: actions do not have the shape [N, A], or [N] where an action is one of M
            choices, or a choice is not in 0..M - 1.
        """
        actions = _action(actions, self.action_space, self._spec)
        self._state = state = self._step(_started(self._state), self._pool, actions)
        termination, truncation = np.array(state.termination), np.array(state.truncation)
        done = termination | truncation
        infos = _masked(state.metrics, ~done)
        if done.any():
            infos |= {'final_obs': _rows(state.next_obs, done), '_final_obs': done}
            infos |= {'final_info': _masked(state.metrics, done), '_final_info': done.copy()}
        self._num_ended += int(done.sum())
        if self._num_ended >= self.num_envs:
            self._refill()
        reward = np.array(state.reward, np.float64)
        return _numpy(state.obs), reward, termination, truncation, infos

    def render(self):
        """A picture [H, W, 3] of each environment."""
        return tuple(self._render(_started(self._state))) if self._render else None

    def _random_seeds(self) -> np.ndarray:
        return self.np_random.integers(_NUM_SEEDS, size=self.num_envs).astype(np.uint32)

    def _refill(self) -> None:
        self._pool = self._draw(self._random_seeds())
        self._num_ended = 0


class SingleEnv(gymnasium.Env):
    """One environment.

    Args:
      env: unbatched and time-limited.
      render: draws states.
      control_hz: steps in a second.
    """

    def __init__(
        self, env: Env, render: Render | None = None, control_hz: float = _CONTROL_HZ
    ) -> None:
        self._spec, self.observation_space = env.spec, space(env.spec.obs)
        self.action_space = action_space(env.spec)
        self.metadata = {'render_modes': ['rgb_array'], 'render_fps': round(control_hz)}
        self.render_mode = 'rgb_array' if render else None
        self._render = render
        self._draw = jax.jit(lambda seed: env.reset(jax.random.key(seed)))
        self._step = jax.jit(env.step)
        self._state: EnvState | None = None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Starts a new episode; returns (obs, {}).

        Raises:
          ValueError: the seed is negative or no integer.
        """
        del options
        if seed is None:
            number = np.uint32(self.np_random.integers(_NUM_SEEDS))
        else:
            number = _seed(seed)
            super().reset(seed=int(seed))
        self._state = state = self._draw(number)
        return _numpy(state.obs), {}

    def step(self, action):
        """Returns (obs, reward, terminated, truncated, metrics).

        Raises:
          ValueError: the action has a wrong shape, or is no valid choice.
        """
        action = _action(action, self.action_space, self._spec)
        self._state = state = self._step(_started(self._state), action)
        info = {name: float(value) for name, value in state.metrics.items()}
        ends = bool(state.termination), bool(state.truncation)
        return _numpy(state.next_obs), float(state.reward), *ends, info

    def render(self):
        """A picture [H, W, 3]."""
        if self._render is None:
            return None
        return self._render(jax.tree.map(lambda x: x[None], _started(self._state)))[0]


def make_vec(
    name: str, num_envs: int = 1, render_mode: str | None = None, **fields: Any
) -> VectorEnv:
    """N environments by their name in the registry, with `fields` of its config changed."""
    env, render, control_hz = _make(name, fields)
    return VectorEnv(env, num_envs, render if render_mode else None, control_hz)


def make(name: str, render_mode: str | None = None, **fields: Any) -> SingleEnv:
    """A single environment by its name in the registry, with `fields` of its config changed."""
    env, render, control_hz = _make(name, fields)
    return SingleEnv(env, render if render_mode else None, control_hz)


def register(*names: str) -> list[str]:
    """Registers our environments with gymnasium: 'reach' as 'jaxpolicy/reach-v0'.

    Args:
      names: environments such as 'playground/CheetahRun', which becomes
        'jaxpolicy/playground.CheetahRun-v0'. Without names, all that need no other
        package are registered.

    Returns:
      The ids for `gymnasium.make_vec` and `gymnasium.make`, which also take fields of the config.
    """
    ids = []
    ours = sorted(
        name for name, place in registry.TABLES['envs'].items() if place.startswith(_TASKS)
    )
    for name in names or ours:
        ids.append(f'jaxpolicy/{name.replace("/", ".")}-v0')
        if ids[-1] not in gymnasium.registry:
            entry, vector_entry = f'{__name__}:make', f'{__name__}:make_vec'
            gymnasium.register(
                ids[-1], entry, vector_entry_point=vector_entry, kwargs={'name': name}
            )
    return ids


def space(spec: PyTree) -> spaces.Space:
    """The space of observations: a Box for an array, unbounded for floats, or a Dict of Boxes."""
    if isinstance(spec, dict):
        return spaces.Dict({name: space(part) for name, part in spec.items()})
    dtype = np.dtype(spec.dtype)
    if np.issubdtype(dtype, np.floating):
        return spaces.Box(-np.inf, np.inf, spec.shape, dtype.type)
    limits = np.iinfo(dtype)
    return spaces.Box(limits.min, limits.max, spec.shape, dtype.type)


def action_space(spec: Spec) -> spaces.Space:
    """The space of actions: the Box [-1, 1]^A, or Discrete(M) for M choices."""
    if is_discrete(spec):
        return spaces.Discrete(spec.action.shape[0])
    return spaces.Box(-1.0, 1.0, spec.action.shape, np.dtype(spec.action.dtype).type)


def _make(name: str, fields: dict[str, Any]) -> tuple[Env, Render | None, float]:
    task = envs.resolve(name)
    if task.make is None:
        raise ValueError(f'name: expected an env on the device, found {name!r}')
    known = [field.name for field in dataclasses.fields(task.config)]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f'{unknown[0]}: expected a field of {name!r}, one of {known}')
    config = dataclasses.replace(task.config, **fields)
    ranges.check(config, '')
    env, draw = time_limit.time_limit(task.make(config), config.episode_steps), task.render
    render = None if draw is None else lambda states: draw(config, states, _HEIGHT, _WIDTH)
    return env, render, _CONTROL_HZ if task.control_hz is None else task.control_hz(config)


def _seed(seed: Any) -> np.uint32:
    """The seed of a key. Gymnasium's seeds have no upper bound: those beyond 32 bits are hashed."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f'seed: expected an integer of at least 0, found {seed!r}')
    if seed < 2**32:
        return np.uint32(seed)
    return np.random.SeedSequence(int(seed)).generate_state(1)[0]


def _numpy(tree: PyTree) -> PyTree:
    """Copies to NumPy arrays, which the next step cannot change."""
    return jax.tree.map(np.array, tree)


def _action(action: Any, like: gymnasium.Space, spec: Spec) -> np.ndarray:
    """Checks an action and turns it into what the environment takes; choices become one-hot."""
    action = np.asarray(action, like.dtype)
    if action.shape != like.shape:
        raise ValueError(f'action: expected shape {like.shape}, found {action.shape}')
    if not is_discrete(spec):
        return action
    (num,) = spec.action.shape
    if ((action < 0) | (action >= num)).any():
        raise ValueError(f'action: expected choices in 0..{num - 1}, found {action}')
    return np.eye(num, dtype=spec.action.dtype)[action]


def _started(state: EnvState | None) -> EnvState:
    if state is None:
        raise ValueError('expected a call of reset before step and render, found none')
    return state


def _masked(metrics: dict[str, jax.Array], mask: np.ndarray) -> dict[str, Any]:
    """Metrics [N], with 0 outside the mask, each beside a copy of the mask."""
    infos = {}
    for name, value in metrics.items():
        infos |= {name: np.where(mask, value, 0).astype(np.float64), f'_{name}': mask.copy()}
    return infos


def _rows(obs: PyTree, mask: np.ndarray) -> np.ndarray:
    """An array of objects [N]: an environment's observation where the mask holds, else None."""
    obs, rows = _numpy(obs), np.full(mask.shape, None, object)
    for i in np.flatnonzero(mask):
        rows[i] = jax.tree.map(lambda x: x[i], obs)
    return rows
