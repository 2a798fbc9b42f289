"""Push-T in its real simulator (gym-pusht), for evaluation under Diffusion Policy's protocol.

A round agent pushes a T-shaped block onto a target pose. The protocol (Chi et al., RSS 2023,
`PushTKeypointsRunner` and its shipped configs): 50 episodes with seeds 100000, 100001, ...; at most
300 steps at 10 Hz; an episode ends when more than 95% of the target is covered; its score is the
largest coverage / 0.95, at most 1, over its steps (the start does not count).

The order in which the block's pose is set matters. Setting the angle turns the block about its
centre of mass, which is not its origin, and so moves the origin. `RandomState(seed)` draws (agent
x y, block x y, angle). The protocol's configs say `legacy_test: True`, which sets the position
first, then the angle, and gym-pusht resets in the same way. We do so too, so that seeds mean the
same starts as in the paper. To put the block where a *recorded* state says, set the angle first,
then the position.

Needs the extra `pusht`: gym-pusht 0.1.8 and pymunk < 7.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import numpy as np

from jaxpolicy import ranges
from jaxpolicy.types import HostEnv, Spec

SUCCESS_COVERAGE = 0.95
WINDOW_PX = 512.0
BOX = (250.0, 150.0)  # px, centre and half-width of the box in which the protocol starts the block

# The nine keypoints of the recorded demonstrations in the block's frame, px: the median over all
# rows of R(-angle) (keypoint - block position). The largest residual of a row has the median 1.6e-5
# px, the 90% quantile 0.008, the 99% quantile 0.04 and the maximum 2.2. Residuals above 0.001 px
# occur where the block has just moved: there the recorded keypoints are rigid (3e-5 px) but belong
# to a slightly different pose than the recorded state; we do not know why.
# test_keypoints_are_the_fit_to_the_data, in the tests of this file, makes them from the data.
BLOCK_KEYPOINTS = np.array(
    [
        [9.26979, 90.04097],
        [-60.98347, -1.18673],
        [60.91276, -1.39336],
        [-0.27050, 25.54363],
        [-14.06493, 122.81585],
        [39.00274, 32.85740],
        [-39.96641, 32.72966],
        [-16.82434, 62.86318],
        [23.54146, -1.70029],
    ]
)


@dataclass(frozen=True)
class Config:
    """The protocol's numbers."""

    obs: Literal['keypoints', 'state'] = 'keypoints'  # [20] or [5], as in the demonstrations
    episode_steps: ranges.Count = 300  # 30 s at 10 Hz; an evaluation takes it as num_steps
    render_size: Annotated[int, ranges.Range(96, 4096)] = 256  # px
    block_inner: Annotated[float, ranges.Range(0.0, 250.0)] = 0.0  # px from BOX's centre, x or y


def make_host(config: Config) -> HostEnv:
    """A batch of real Push-T simulators, one per seed given to `reset`, stepped one after another.

    Observations are float32: 'keypoints' is the 9 block keypoints x y, then the agent's x y, all
    px [20]; 'state' is agent x y, block x y (px), block angle in [0, 2 pi) [5]. Actions in [-1, 1]
    are the agent's target, px = (a + 1) 256, and are clipped. The reward is the score of the step.
    The metrics are 'coverage', 'score' = min(coverage / 0.95, 1) and 'success'
    (coverage > 0.95). A simulator that has ended is not stepped on: it repeats its last outcome,
    with reward 0.

    Raises:
      ValueError: `obs` is unknown or `render_size` too small; from `step`: actions have a wrong
        shape or are not finite.
      ImportError: gym-pusht is missing, or pymunk is 7 or newer.
    """
    if config.obs not in ('keypoints', 'state'):
        raise ValueError(f"obs: expected 'keypoints' or 'state', found {config.obs!r}")
    if config.render_size < 96:  # gym-pusht fails to draw the action's marker below
        raise ValueError(f'render_size: expected at least 96 px, found {config.render_size}')
    simulator = _import_simulator()
    size = 20 if config.obs == 'keypoints' else 5
    sims: list[Any] = []
    last: dict[str, np.ndarray] = {}  # state [N, 5], coverage [N], ended [N] bool

    def observe() -> np.ndarray:
        state = last['state']
        full = state if config.obs == 'state' else keypoints_from_state(state)
        return full.astype(np.float32)

    def reset(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        del sims[len(seeds) :]
        while len(sims) < len(seeds):
            sims.append(_open(simulator, config.render_size))
        drawn = [initial_state(int(seed), config.block_inner) for seed in seeds]
        starts = [{'reset_to_state': start} for start in drawn]
        states = [sim.reset(options=start)[0] for sim, start in zip(sims, starts, strict=True)]
        last.update(
            state=np.stack(states), coverage=np.zeros(len(sims)), ended=np.zeros(len(sims), bool)
        )
        return observe()

    def step(action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        target = _target_px(action, len(sims))
        running = np.flatnonzero(~last['ended'])
        reward = np.zeros(len(sims), np.float32)
        for i in running:
            outcome = sims[i].step(target[i])
            last['state'][i], reward[i], last['ended'][i] = outcome[:3]
            last['coverage'][i] = outcome[4]['coverage']
        return observe(), reward, last['ended'].copy(), coverage_metrics(last['coverage'])

    def render(index: int) -> np.ndarray:
        return np.ascontiguousarray(sims[index].render(), dtype=np.uint8)

    spec = Spec(
        obs=jax.ShapeDtypeStruct((size,), np.float32),
        action=jax.ShapeDtypeStruct((2,), np.float32),
    )
    return HostEnv(reset=reset, step=step, render=render, spec=spec)


def control_hz(config: Config) -> float:
    """Actions in a second."""
    del config
    return 10.0


def _open(simulator: Any, size: int) -> Any:
    return simulator(obs_type='state', visualization_width=size, visualization_height=size)


def initial_state(seed: int, inner: float = 0.0) -> np.ndarray:
    """The protocol's draw [5] for a seed: agent x y, block x y (px), angle (rad).

    The simulator sets the position first, then the angle, and takes one 0.01 s step. An `inner`
    above 0 moves the block away from the centre of BOX, as `tasks.parts.outwards` does.
    """
    random = np.random.RandomState(seed)
    agent = [random.randint(50, 450), random.randint(50, 450)]
    block = [random.randint(100, 400), random.randint(100, 400)]
    if inner > 0:
        offset = np.array(block) - BOX[0]
        largest = max(float(np.abs(offset).max()), 1e-9)
        wanted = inner + max(BOX[1] - inner, 0.0) * largest / BOX[1]
        block = BOX[0] + offset * (wanted / largest)
    return np.array([*agent, *block, random.randn() * 2 * np.pi - np.pi])


def keypoints_from_state(state: np.ndarray) -> np.ndarray:
    """Turns states [N, 5] into [N, 20]: nine block keypoints x y, then the agent's x y, all px."""
    cos, sin = np.cos(state[:, 4, None]), np.sin(state[:, 4, None])
    x, y = BLOCK_KEYPOINTS[:, 0], BLOCK_KEYPOINTS[:, 1]
    points = np.stack(
        [state[:, 2, None] + cos * x - sin * y, state[:, 3, None] + sin * x + cos * y], axis=-1
    )  # [N, 9, 2]
    return np.concatenate([points.reshape(len(state), 18), state[:, :2]], axis=1)


def coverage_metrics(coverage: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics 'coverage', 'score' and 'success', float32 [N], from covered fractions [N]."""
    return {
        'coverage': coverage.astype(np.float32),
        'score': np.clip(coverage / SUCCESS_COVERAGE, 0.0, 1.0).astype(np.float32),
        'success': (coverage > SUCCESS_COVERAGE).astype(np.float32),
    }


def _target_px(action: Any, num_envs: int) -> np.ndarray:
    action = np.asarray(action, np.float64)
    if action.shape != (num_envs, 2):
        raise ValueError(f'action: expected shape [{num_envs}, 2], found {list(action.shape)}')
    if not np.isfinite(action).all():
        row = int(np.argwhere(~np.isfinite(action))[0][0])
        raise ValueError(f'action: expected finite values, found {action[row]} in row {row}')
    return (np.clip(action, -1.0, 1.0) + 1.0) * (WINDOW_PX / 2)


def _import_simulator() -> Any:
    os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')
    command = "pip install 'gym-pusht==0.1.8' 'pymunk<7'"
    try:
        import pymunk
        from gym_pusht.envs import pusht
    except ImportError as error:
        raise ImportError(f'Push-T needs gym-pusht ({error}): {command}') from error
    if int(pymunk.version.split('.')[0]) >= 7:
        raise ImportError(f'Push-T needs pymunk < 7, found {pymunk.version}: {command}')
    return pusht.PushTEnv
