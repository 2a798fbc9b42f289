# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""Any environment of MuJoCo Playground, by name: 'playground/CartpoleBalance'.

Playground defines rewards, metrics, observations (an array, or a dict such as 'state' and
'privileged_state'), and actions in [-1, 1], which are clipped here. Its `done` is our termination;
in the DM-Control-suite tasks it is set only if a world became NaN. None of its wrappers is used:
time limits, true last observations and fresh starts are those of `envs.wrap`.

Between two steps an environment keeps only those of MJX's arrays that the task's next steps read,
such as positions, velocities and the solver's warm start, because a step computes the others anew.

Source: Zakka et al., 2025 (arXiv:2502.08844). The DM-Control-suite tasks come with the package; for
the others Playground fetches robot models when one is made for the first time.
"""

import contextlib
import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from mujoco import mjx

from jaxpolicy import ranges
from jaxpolicy.envs.physics import needed
from jaxpolicy.envs.physics import stepping as physics
from jaxpolicy.envs.render import pictures
from jaxpolicy.envs.tasks import parts
from jaxpolicy.envs.wrap import randomize
from jaxpolicy.types import Env, EnvState, Key, Spec

PyTree = Any

RANDOMIZABLE = True  # see `jaxpolicy.envs`


@dataclasses.dataclass(frozen=True)
class Config:
    """Which environment; `defaults` fills in its own time limit and action repeat."""

    task: str = 'CartpoleBalance'  # a name in Playground's registry
    episode_steps: ranges.Count = 1000  # time limit, in our steps, each of which repeats its action
    action_repeat: ranges.Count = 1  # Playground's steps in one of ours
    impl: Literal['jax', 'warp'] = 'jax'  # MJX's implementation; warp is for NVIDIA
    randomize: bool = False  # draw the task's own domain randomisation anew at every reset
    overrides: str = ''  # changes to its config, JSON: '{"reward_config.scales.box_target": 4.0}'


class Sim(struct.PyTreeNode):
    """The task's state."""

    state: PyTree  # Playground's; its `data` is a dict of those arrays of MJX that steps read
    overrides: dict[str, jax.Array]  # the fields of the model that this episode drew


def defaults(task: str) -> Config:
    """The config of a task with Playground's own time limit and action repeat.

    Raises:
      ValueError: there is no such task.
      ImportError: Playground is not installed.
    """
    theirs = _registered(task).get_default_config(task)
    repeat = theirs.get('action_repeat', 1)
    # Playground counts its own steps and ends an episode after the repeat that reaches its limit.
    return Config(task, -(-theirs.episode_length // repeat), repeat)


def make(config: Config, draw: randomize.Draw | None = None) -> Env:
    """Builds the environment, unbatched and without a time limit.

    Args:
      draw: domain randomisation, drawn anew at each reset; see `randomize.from_playground`.

    Raises:
      ValueError: the task or an override is unknown, a field is out of its range, or `randomize`
        is set for a task without domain randomisation.
      ImportError: Playground (or Warp for impl 'warp') is not installed.
    """
    inner = _load(config)
    if config.randomize and draw is None:
        randomization_fn = _registered(config.task).get_domain_randomizer(config.task)
        if randomization_fn is None:
            raise ValueError(f'env.randomize: {config.task} has no domain randomisation')
        draw = randomize.from_playground(randomization_fn)

    def fresh(key: Key) -> tuple[PyTree, Key, dict[str, jax.Array]]:
        key, reset_key, model_key = jax.random.split(key, 3)
        drawn = draw(inner.mjx_model, config, model_key) if draw else {}
        with physics.tracing(), _model(inner, drawn):
            return inner.reset(jax.random.key_data(reset_key)), key, drawn

    shapes, _, drawn_shapes = jax.eval_shape(fresh, jax.random.key(0))
    blank = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes.data)
    action_shape = jax.ShapeDtypeStruct((inner.action_size,), jnp.float32)

    advance = _advancing(inner, config, blank)
    public, rest = _public(shapes.data), shapes.replace(data=None)
    carried = needed.needed(advance, public, rest, drawn_shapes, action_shape)
    shapes = shapes.replace(data=_only(carried, public))

    def pack(state, data: dict[str, jax.Array], drawn) -> tuple[PyTree, Sim]:
        state = _like(shapes, state.replace(data=_only(carried, data)))
        return _plain(state.obs), Sim(state, drawn)

    def reset(key: Key) -> EnvState:
        state, key, drawn = fresh(key)
        obs, sim = pack(state, _public(state.data), drawn)
        zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
        return EnvState(obs, obs, zero, no, no, _metrics(sim.state), key, sim)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Sim = state.sim
        rest = sim.state.replace(data=None)
        data, (theirs, reward) = advance(sim.state.data, rest, sim.overrides, action)
        obs, sim = pack(theirs, data, sim.overrides)
        return state.replace(
            obs=obs,
            next_obs=obs,
            reward=reward,
            termination=sim.state.done > 0,
            truncation=jnp.zeros((), bool),
            metrics=_metrics(sim.state),
            sim=sim,
        )

    obs = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype), _plain(shapes.obs))
    return Env(reset, step, Spec(obs, action_shape))


def _advancing(inner: Any, config: Config, blank: mjx.Data) -> Any:
    """One of our steps, jitted: it is traced once, however often a program steps."""

    @jax.jit
    def advance(data: dict[str, jax.Array], state: PyTree, drawn, action: jax.Array):
        """(data, (the rest of the state, the sum of the rewards)); the rest has no `data`."""
        theirs = _copied(state).replace(data=blank.replace(**data))
        with physics.tracing(), _model(inner, drawn):
            theirs, reward = _repeat(inner, theirs, jnp.clip(action, -1, 1), config.action_repeat)
        return _public(theirs.data), (theirs.replace(data=None), reward)

    return advance


def _repeat(env: Any, state: Any, action: jax.Array, times: int) -> tuple[Any, jax.Array]:
    """Takes `times` steps, or fewer if the task ends; the last state and the sum of rewards."""
    state = env.step(state.replace(done=jnp.zeros_like(state.done)), action)
    first = jnp.asarray(state.reward, jnp.float32)
    if times == 1:
        return state, first

    def once(_, carry):
        state, reward = carry
        ended = state.done > 0
        new = env.step(_copied(state), action)
        state = jax.tree.map(lambda a, b: jnp.where(ended, a, b), state, new)
        return state, reward + jnp.where(ended, 0.0, new.reward).astype(jnp.float32)

    return jax.lax.fori_loop(1, times, once, (state, first))


def _registered(task: str) -> Any:
    """Playground's registry, after a check that it knows the task."""
    try:
        from mujoco_playground import registry  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"playground/{task} needs MuJoCo Playground: pip install 'jaxpolicy[playground]' "
            f'({error})'
        ) from error
    if task not in registry.ALL_ENVS:
        close = difflib.get_close_matches(task, registry.ALL_ENVS) or sorted(registry.ALL_ENVS)
        raise ValueError(f'env.task: expected a task of Playground such as {close}, found {task!r}')
    return registry


def _overrides(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or '{}')
    except json.JSONDecodeError as error:
        raise ValueError(f'env.overrides: expected JSON ({error}), found {text!r}') from error
    if not isinstance(found, dict):
        raise ValueError(f'env.overrides: expected an object of JSON, found {text!r}')
    return found


def _load(config: Config) -> Any:
    """Playground's environment, with a model that is committed to no device."""
    ranges.check(config, 'config.env.')
    registry = _registered(config.task)
    overrides = _overrides(config.overrides)
    if 'impl' in registry.get_default_config(config.task):
        overrides['impl'] = config.impl
    try:
        env = registry.load(config.task, config_overrides=overrides)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f'env.overrides: {config.task} does not take them: {error}') from error
    env._mjx_model = physics.release(env.mjx_model)
    return env


def _public(data: mjx.Data) -> dict[str, Any]:
    """MJX's arrays that an environment may read between two steps.

    Checkpoints refuse arrays of size 0 (of a model without stateful actuators or mocap bodies), so
    these are left out.
    """
    items = vars(data).items()
    kept = {name: x for name, x in items if name[0] != '_' and x is not None}
    return {name: x for name, x in kept.items() if 0 not in np.shape(x)}


def _only(names: set[str], data: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: data[name] for name in sorted(names)}


def _copied(tree: PyTree) -> PyTree:
    """The same arrays in new dicts, because Playground's steps write into the dicts they get."""
    return jax.tree.map(lambda x: x, tree)


def _plain(obs: PyTree) -> PyTree:
    """Turns mappings into dicts."""
    return {name: _plain(x) for name, x in obs.items()} if isinstance(obs, Mapping) else obs


def _metrics(state: Any) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x, jnp.float32) for name, x in state.metrics.items()}


def _like(shapes: PyTree, state: PyTree) -> PyTree:
    """Gives a state the dtypes of a fresh one and no weak types, so that nothing recompiles."""

    def cast(path, shape, leaf):
        leaf = jnp.asarray(leaf)
        if leaf.shape != shape.shape:
            name = jax.tree_util.keystr(path)
            raise ValueError(f'state{name}: expected {shape.shape} as at reset, found {leaf.shape}')
        return jax.lax.convert_element_type(leaf, shape.dtype)

    return jax.tree_util.tree_map_with_path(cast, shapes, state)


@contextlib.contextmanager
def _model(env: Any, drawn: dict[str, jax.Array]) -> Iterator[None]:
    """Replaces `env.mjx_model`, which Playground's code reads, while the environment is traced."""
    original = env.mjx_model
    env._mjx_model = original.tree_replace(drawn)
    try:
        yield
    finally:
        env._mjx_model = original


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of the states [T], seen by the model's first camera.

    Raises:
      RuntimeError: there is no OpenGL here.
    """
    env = _load(config)
    data = jax.device_get(parts.find(states.sim, Sim).state.data)
    model, one = env.mj_model, mujoco.MjData(env.mj_model)
    screen = model.vis.global_
    screen.offwidth, screen.offheight = max(screen.offwidth, width), max(screen.offheight, height)
    frames = []
    with pictures.open_renderer(model, height, width) as renderer:
        for t in range(len(data['qpos'])):
            for name in {'qpos', 'qvel', 'mocap_pos', 'mocap_quat'} & data.keys():
                getattr(one, name)[:] = data[name][t]
            mujoco.mj_forward(model, one)
            renderer.update_scene(one, camera=0 if model.ncam else -1)
            frames.append(renderer.render())
    return np.stack(frames)


def control_hz(config: Config) -> float:
    """Actions in a second."""
    return 1.0 / (_load(config).dt * config.action_repeat)
