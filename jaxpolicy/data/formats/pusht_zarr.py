"""The human Push-T demonstrations of Diffusion Policy: `pusht_cchi_v7_replay.zarr`.

A zarr v2 folder, 206 episodes and 25,650 steps at 10 Hz:

  data/action        [n, 2] target of the agent, px in [0, 512]
  data/state         [n, 5] agent x y (px), block x y (px), block angle (rad)
  data/keypoint      [n, 9, 2] points fixed to the block, px
  meta/episode_ends  [E]

The images, 709 MB in memory, are not read. The arrays are read with tensorstore, which is installed
together with orbax.
Source: Chi et al., "Diffusion Policy", RSS 2023, `PushTLowdimDataset`.
"""

import os
from typing import Any

import numpy as np

from jaxpolicy import registry
from jaxpolicy.data import checks
from jaxpolicy.data import episodes as episodes_lib

WINDOW_PX = 512.0
FROM_ENV = ('obs',)  # fields of the env's Config that `load` takes


def load(path: str | os.PathLike[str], obs: str = 'keypoints') -> episodes_lib.Episodes:
    """Reads the demonstrations.

    Args:
      path: the folder `pusht_cchi_v7_replay.zarr`.
      obs: what an observation holds. 'keypoints' [20]: the 9 block keypoints, then the agent, all
        px; Diffusion Policy trains on these. 'state' [5]: agent and block (px), then the block's
        angle in [0, 2 pi), as in Diffusion Policy's environment.

    Returns:
      Episodes with actions mapped from px to [-1, 1] by a / 256 - 1.

    Raises:
      ValueError: an array is missing, truncated, of the wrong shape, not finite or inconsistent
        with the others; the message names it.
    """
    path = os.path.expanduser(path)
    if obs not in ('keypoints', 'state'):
        raise ValueError(f"obs: expected 'keypoints' or 'state', found {obs!r}")
    if not os.path.isdir(path):
        hint = (
            'unzip it first'
            if path.endswith('.zip')
            else f'no such folder; {registry.beside(path)}'
        )
        raise ValueError(
            f'{path}: expected a zarr folder such as pusht_cchi_v7_replay.zarr: {hint}'
        )
    action = _read(path, 'data/action', (None, 2))
    rows = len(action)
    state = _read(path, 'data/state', (rows, 5)).astype(np.float32)
    if action.min() < 0.0 or action.max() > WINDOW_PX:
        found = f'[{action.min():g}, {action.max():g}]'
        raise ValueError(f'{path}: data/action: expected px in [0, 512], found {found}')
    if obs == 'keypoints':
        keypoint = _read(path, 'data/keypoint', (rows, 9, 2)).astype(np.float32)
        observation = np.concatenate([keypoint.reshape(rows, 18), state[:, :2]], axis=1)
    else:
        angle = np.mod(state[:, 4:], np.float32(2.0 * np.pi))
        observation = np.concatenate([state[:, :4], angle], axis=1)
    result = episodes_lib.Episodes(
        obs=observation,
        action=(action / (WINDOW_PX / 2) - 1.0).astype(np.float32),
        episode_ends=_read(path, 'meta/episode_ends', (None,)).astype(np.int64),
        info={'source': os.path.basename(os.path.normpath(path)), 'obs': obs, 'control_hz': 10.0},
    )
    return episodes_lib.validate(result, path)


def _read(path: str, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    import tensorstore  # takes 0.1 s to import, and only this function needs it

    folder = os.path.join(os.path.abspath(path), *key.split('/'))
    if not os.path.isfile(os.path.join(folder, '.zarray')):
        raise ValueError(f'{path}: {key}: expected an array, found no {key}/.zarray')
    spec: dict[str, Any] = {
        'driver': 'zarr',
        'kvstore': {'driver': 'file', 'path': folder},
        'fill_missing_data_reads': False,  # a missing chunk is an error and does not read as zeros
    }
    try:
        array = np.asarray(tensorstore.open(spec, open=True, read=True).result().read().result())
    except (ValueError, OSError, OverflowError) as error:
        reason = str(error).replace('\n', ' ').split(' [')[0]
        raise ValueError(f'{path}: {key}: expected a readable array, found: {reason}') from error
    checks.array(f'{path}: {key}', array, shape)
    return array
