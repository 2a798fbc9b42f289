"""Push-T on the device: push a T-shaped block onto a target pose with a round agent.

This is the simulator of gym-pusht 0.1.8 (pymunk 6, Chipmunk 7) in JAX, see `rigid2d` and
`shapes2d`. The protocol, the starts, the keypoints and the metrics are those of `pusht_gym`, so a
policy can be trained here and evaluated there, or the reverse. `python -m
experiments.studies.pusht_replay` measures how far both stay together.

It differs in two ways. Numbers are float32. Simultaneous contacts are solved in a fixed order; in
Chipmunk the order follows the history of a bounding-box tree. The order matters where contacts
contradict each other, such as when the agent crushes the block against a wall.

A reset draws like the protocol, but from JAX's generator: agent x, y integers in [50, 450), block
x, y integers in [100, 400), the angle normal around -pi with deviation 2 pi. Then it takes one step
of 0.01 s.

Observation, float32: 'keypoints' [20], nine points of the block x y, then the agent's x y, px;
'state' [5], agent x y, block x y, px, block angle in [0, 2 pi).

Action, [-1, 1]^2, clipped here: the agent's target, px = (a + 1) 256. A PD controller at 100 Hz
moves the agent there; an action lasts 0.1 s.

Reward: 'score' is the covered share of the target / 0.95, at most 1, as in `pusht_gym`. 'shaped' is
meant for reinforcement learning and potential-based (Ng et al., ICML 1999, with discount 1):
  Phi' - Phi + success_bonus [coverage > 0.95],
  Phi = coverage_weight coverage - block_weight d - agent_weight g,
where d is the mean distance of the block's nine keypoints from their places at the target, and g is
the gap between the agent and the block, both in units of 100 px.

Success: more than 95% of the target is covered. It ends the episode.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy import ranges
from jaxpolicy.envs.adapters import pusht_gym
from jaxpolicy.envs.physics import polygons, rigid2d, shapes2d
from jaxpolicy.envs.tasks import parts
from jaxpolicy.types import Env, EnvState, Key, Spec

GOAL = (256.0, 256.0, np.pi / 4)  # x, y (px) of the block's origin, angle
CONTROL_STEPS = 10  # physics steps per action
STIFFNESS, DAMPING = 100.0, 20.0  # of the agent's controller, 1/s^2 and 1/s
TWO_PI = np.float32(2.0 * np.pi)


_SCORE = ranges.Idle('reward', ('score',))


@dataclasses.dataclass(frozen=True)
class Config:
    """The task's numbers."""

    obs: Literal['keypoints', 'state'] = 'keypoints'  # [20] or [5], as in the demonstrations
    episode_steps: ranges.Count = 300  # recommended time limit, 30 s
    reward: Literal['score', 'shaped'] = 'score'  # shaped: with the weights below
    coverage_weight: Annotated[ranges.NonNegative, _SCORE] = 10.0  # when all is covered
    block_weight: Annotated[ranges.NonNegative, _SCORE] = 1.0  # per 100 px
    agent_weight: Annotated[ranges.NonNegative, _SCORE] = 0.2  # per 100 px
    success_bonus: Annotated[ranges.NonNegative, _SCORE] = 10.0  # once: success ends the episode
    # px, the block starts at least so far from the centre of pusht_gym.BOX in x or y
    block_inner: Annotated[float, ranges.Range(0.0, 250.0)] = 0.0


class Sim(struct.PyTreeNode):
    """The task's state."""

    world: rigid2d.World
    potential: jax.Array  # []


def make(config: Config) -> Env:
    """Builds the task, unbatched; `metrics` has 'coverage', 'score' and 'success', per step.

    Raises:
      ValueError: an unknown `obs` or `reward`.
    """
    _check(config)

    def reset(key: Key) -> EnvState:
        key, key_agent, key_block, key_angle = jax.random.split(key, 4)
        agent = jax.random.randint(key_agent, (2,), 50, 450).astype(jnp.float32)
        block = jax.random.randint(key_block, (2,), 100, 400).astype(jnp.float32)
        block = parts.outwards(block, *pusht_gym.BOX, config.block_inner)
        angle = _wrap(jax.random.normal(key_angle) * TWO_PI - np.float32(np.pi))
        return start(config, jnp.concatenate([agent, block, angle[None]]), key)

    def step(state: EnvState, action: jax.Array) -> EnvState:
        sim: Sim = state.sim
        action = jnp.clip(action, -1.0, 1.0).astype(jnp.float32)
        world = _control(sim.world, (action + 1.0) * np.float32(pusht_gym.WINDOW_PX / 2))
        return _outcome(config, state, world, sim.potential)

    size = 20 if config.obs == 'keypoints' else 5
    spec = Spec(
        obs=jax.ShapeDtypeStruct((size,), jnp.float32),
        action=jax.ShapeDtypeStruct((2,), jnp.float32),
    )
    return Env(reset, step, spec)


def start(config: Config, drawn: jax.Array, key: Key) -> EnvState:
    """Begins an episode from a draw of the protocol.

    As in the simulator, setting the angle turns the block about its centre of mass.

    Args:
      drawn: [5] agent x y, block x y (px), angle, such as a row of `protocol_states`.
      key: becomes the key of the state.
    """
    _check(config)
    drawn = jnp.asarray(drawn, jnp.float32)
    return _begin(
        config, drawn[:2], drawn[2:] + np.array([*shapes2d.CENTRE_OF_MASS, 0.0], np.float32), key
    )


def restore(config: Config, recorded: jax.Array, key: Key) -> EnvState:
    """Begins an episode at rest, with the block's origin where a recorded state [5] says."""
    _check(config)
    recorded = jnp.asarray(recorded, jnp.float32)
    return _begin(config, recorded[:2], pose_of(recorded), key)


def pose_of(recorded: jax.Array) -> jax.Array:
    """The block's pose [3], centre of mass (px) and angle, in a recorded state [5]."""
    cos, sin = jnp.cos(recorded[4]), jnp.sin(recorded[4])
    lever = np.float32(shapes2d.CENTRE_OF_MASS[1])
    return recorded[2:] + lever * jnp.stack([-sin, cos, jnp.zeros_like(cos)])


def protocol_states(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    """The protocol's draws for these seeds, [N, 5] float32, with angles wrapped into [-pi, pi)."""
    drawn = np.stack([pusht_gym.initial_state(int(seed)) for seed in seeds])
    drawn[:, 4] = (drawn[:, 4] + np.pi) % (2.0 * np.pi) - np.pi
    return drawn.astype(np.float32)


def state_of(state: EnvState) -> jax.Array:
    """The simulator's state [5] float32: agent x y, block x y (px), angle in [0, 2 pi)."""
    world = parts.find(state.sim, Sim).world
    return jnp.concatenate([world.agent, _origin(world.pose), _wrap(world.pose[2])[None]])


def stay(state: EnvState) -> jax.Array:
    """The action [2] that leaves the agent where it is."""
    return parts.find(state.sim, Sim).world.agent / np.float32(pusht_gym.WINDOW_PX / 2) - 1.0


def coverage(pose: jax.Array) -> jax.Array:
    """The share of the target that the block covers, exactly.

    Args:
      pose: [3, ...] of the block: centre of mass (px), angle.

    Returns:
      [...] in [0, 1].
    """
    cos, sin = jnp.cos(pose[2] - GOAL[2]), jnp.sin(pose[2] - GOAL[2])
    east, north = pose[0] - GOAL[0], pose[1] - GOAL[1]
    x0, y0 = (east + north) * np.float32(np.sqrt(0.5)), (north - east) * np.float32(np.sqrt(0.5))
    total = jnp.zeros_like(cos)
    goals = shapes2d.BOXES + np.tile(shapes2d.CENTRE_OF_MASS, 2)
    for low_x, low_y, high_x, high_y in shapes2d.BOXES:
        corners = [[low_x, low_y], [high_x, low_y], [high_x, high_y], [low_x, high_y]]
        cx, cy = np.array(corners, np.float32).T.reshape(2, 4, *(1,) * cos.ndim)
        x, y = x0 + cos * cx - sin * cy, y0 + sin * cx + cos * cy
        for box in goals.astype(np.float32):
            size = box[2:] - box[:2]
            total += polygons.box_overlap(x - box[0], y - box[1], size[0], size[1])
    return total / np.float32(np.prod(goals[:, 2:] - goals[:, :2], axis=1).sum())


def render(config: Config, states: EnvState, height: int, width: int) -> np.ndarray:
    """Pictures uint8 [T, H, W, 3] of target (green), block (grey), agent (blue), walls; y down."""
    from jaxpolicy.envs.render import drawing  # only pictures need it

    del config
    world = jax.device_get(parts.find(states.sim, Sim).world)
    rows, columns = np.mgrid[:height, :width]
    x = (columns + 0.5) * (pusht_gym.WINDOW_PX / width)
    y = (rows + 0.5) * (pusht_gym.WINDOW_PX / height)
    edge = np.abs(np.stack([x, y]) - shapes2d.ROOM_CENTRE).max(0) - shapes2d.ROOM_HALF
    empty = np.full((height, width, 3), 255, np.uint8)
    empty[np.abs(edge) <= shapes2d.WALL_RADIUS] = drawing.FIXED
    cos, sin = np.cos(GOAL[2]), np.sin(GOAL[2])
    x_goal, y_goal = GOAL[0] - 45.0 * sin, GOAL[1] + 45.0 * cos
    empty[_inside(x, y, (x_goal, y_goal, GOAL[2]))] = drawing.GOAL
    frames = np.repeat(empty[None], len(world.pose), axis=0)
    for frame, pose, agent in zip(frames, world.pose, world.agent, strict=True):
        frame[_inside(x, y, pose)] = drawing.OBJECT
        reached = (x - agent[0]) ** 2 + (y - agent[1]) ** 2 <= shapes2d.AGENT_RADIUS**2
        frame[reached] = drawing.AGENT
    return frames


def _inside(x: np.ndarray, y: np.ndarray, pose: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which points (x, y) a block at this pose covers, bool."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    dx, dy = x - pose[0], y - pose[1]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    boxes = [(a <= u) & (u <= c) & (b <= v) & (v <= d) for a, b, c, d in shapes2d.BOXES]
    return boxes[0] | boxes[1]


def _check(config: Config) -> None:
    if config.obs not in ('keypoints', 'state'):
        raise ValueError(f"obs: expected 'keypoints' or 'state', found {config.obs!r}")
    if config.reward not in ('score', 'shaped'):
        raise ValueError(f"reward: expected 'score' or 'shaped', found {config.reward!r}")


def _begin(config: Config, agent: jax.Array, pose: jax.Array, key: Key) -> EnvState:
    world = rigid2d.step(rigid2d.start(agent, pose))
    zero, no = jnp.zeros((), jnp.float32), jnp.zeros((), bool)
    metrics = {'coverage': zero, 'score': zero, 'success': zero}
    obs = _observe(config, world)
    sim = Sim(world, _potential(config, world, coverage(world.pose)))
    return EnvState(obs, obs, zero, no, no, metrics, key, sim)


@jax.custom_batching.custom_vmap
def _control(world: rigid2d.World, target: jax.Array) -> rigid2d.World:
    """Moves the world by 0.1 s, while the controller pulls the agent to a target [2, ...] px."""

    def substep(_, world: rigid2d.World) -> rigid2d.World:
        pull = STIFFNESS * (target - world.agent) - DAMPING * world.agent_velocity
        velocity = world.agent_velocity + rigid2d.DT * pull
        return rigid2d.step(world.replace(agent_velocity=velocity))

    return jax.lax.fori_loop(0, CONTROL_STEPS, substep, world)


@_control.def_vmap
def _control_batch(axis_size: int, batched: Any, world: rigid2d.World, target: jax.Array) -> Any:
    """Puts the batch axis last, not first as `vmap` does: several times faster on a CPU."""

    def last(x: jax.Array, is_batched: bool) -> jax.Array:
        if is_batched:
            return jnp.moveaxis(x, 0, -1)
        return jnp.broadcast_to(x[..., None], (*x.shape, axis_size))

    out = _control(*jax.tree.map(last, (world, target), tuple(batched)))
    return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), out), jax.tree.map(lambda _: True, out)


def _outcome(config: Config, state: EnvState, world: rigid2d.World, before) -> EnvState:
    """The state after an action, with its reward and metrics."""
    covered = coverage(world.pose)
    score = jnp.clip(covered / pusht_gym.SUCCESS_COVERAGE, 0.0, 1.0)
    done = covered > pusht_gym.SUCCESS_COVERAGE
    success = done.astype(jnp.float32)
    potential = _potential(config, world, covered)
    shaped = potential - before + config.success_bonus * success
    obs = _observe(config, world)
    return state.replace(
        obs=obs,
        next_obs=obs,
        reward=score if config.reward == 'score' else shaped,
        termination=done,
        truncation=jnp.zeros((), bool),
        metrics={'coverage': covered, 'score': score, 'success': success},
        sim=Sim(world, potential),
    )


def _potential(config: Config, world: rigid2d.World, covered: jax.Array) -> jax.Array:
    goal = jnp.asarray(_goal_keypoints(), jnp.float32)
    distance = jnp.linalg.norm(_keypoints(world.pose) - goal, axis=-1).mean()
    pose = world.pose
    axes = jnp.stack([jnp.cos(pose[2]), jnp.sin(pose[2])])
    gap = jnp.maximum(shapes2d.agent_contacts(world.agent, pose, axes).gap.min(), 0.0)
    away = config.block_weight * distance + config.agent_weight * gap
    return config.coverage_weight * covered - away / 100.0


def _goal_keypoints() -> np.ndarray:
    return pusht_gym.keypoints_from_state(np.array([[0.0, 0.0, *GOAL]]))[0, :18].reshape(9, 2)


def _origin(pose: jax.Array) -> jax.Array:
    """The block's origin, [2] px."""
    lever = np.float32(shapes2d.CENTRE_OF_MASS[1])
    return pose[:2] - lever * jnp.stack([-jnp.sin(pose[2]), jnp.cos(pose[2])])


def _keypoints(pose: jax.Array) -> jax.Array:
    """The block's nine keypoints, [9, 2] px."""
    x, y = jnp.asarray(pusht_gym.BLOCK_KEYPOINTS.T, jnp.float32)
    cos, sin = jnp.cos(pose[2]), jnp.sin(pose[2])
    origin = _origin(pose)
    return jnp.stack([origin[0] + cos * x - sin * y, origin[1] + sin * x + cos * y], axis=-1)


def _observe(config: Config, world: rigid2d.World) -> jax.Array:
    if config.obs == 'keypoints':
        return jnp.concatenate([_keypoints(world.pose).reshape(18), world.agent])
    return jnp.concatenate([world.agent, _origin(world.pose), _wrap(world.pose[2])[None]])


def _wrap(angle: jax.Array) -> jax.Array:
    """Wraps an angle into [0, 2 pi)."""
    wrapped = jnp.mod(angle, TWO_PI)  # rounding can give 2 pi itself
    return jnp.where(wrapped < TWO_PI, wrapped, 0.0)


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 10.0
