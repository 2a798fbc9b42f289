"""Windows of demonstrations on the device, from which batches of chunks are gathered by index.

A window is `pred_horizon` (Tp) consecutive rows of one episode. A chunk has the observations of its
first `obs_horizon` (To) rows and the actions of all of its rows: action[:, To - 1] is the action
taken at obs[:, To - 1], and a receding-horizon policy executes action[:, To - 1 : To - 1 + Ta].

An episode of length L has the windows whose first row, counted from the episode's start, is one of

    -(To - 1), ..., L - Tp + (Ta - 1),

That makes L - Tp + To + Ta - 1 windows, or none if that is not positive. So a window may begin
before the episode, as long as the last row that it observes is in the episode. It may end at most
Ta - 1 rows beyond the episode. Rows outside the episode repeat its first or last row.
Source: Diffusion Policy's `SequenceSampler` with pad_before = To - 1 and pad_after = Ta - 1. It
trains on the repeated actions too. Here `Chunk.mask` is False on them, as it is on actions that are
not to be learnt, and losses leave them out. Windows without any action to learn are not listed.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.types import Chunk, PyTree


class Windows(struct.PyTreeNode):
    """Episodes on the device and the windows in them (W of them)."""

    obs: PyTree  # [n, ...]
    action: jax.Array  # [n, A], or [n, M] int8 where an action is one of M choices
    first: jax.Array  # [W] int32 row of the window's first step; may lie before `start`
    start: jax.Array  # [W] int32 first row of the window's episode
    learnt: jax.Array  # [n] bool, which actions are to be learnt
    end: jax.Array  # [W] int32 one beyond the last row of the window's episode
    obs_horizon: int = struct.field(pytree_node=False)
    pred_horizon: int = struct.field(pytree_node=False)


def make(
    episodes: episodes_lib.Episodes,
    obs_horizon: int,
    pred_horizon: int,
    action_horizon: int,
    tag: str = '',
) -> Windows:
    """Puts the episodes on the default device and lists their windows.

    Args:
      tag: learn only the actions that carry this tag, such as 'intervention'; '' means all actions.

    Raises:
      ValueError: a horizon is below 1, To > Tp, To - 1 + Ta > Tp, no episode is long enough, or
        nothing carries the tag.
    """
    check_horizons(obs_horizon, pred_horizon, action_horizon)
    ends = np.asarray(episodes.episode_ends)
    if len(episodes.action) + pred_horizon >= 2**31:
        raise ValueError(f'action: expected fewer than 2^31 rows, found {len(episodes.action)}')
    starts = np.concatenate([[0], ends[:-1]])
    extra = obs_horizon + action_horizon - 1 - pred_horizon
    counts = np.maximum(ends - starts + extra, 0)
    if counts.sum() == 0:
        longest = int((ends - starts).max())
        raise ValueError(
            f'pred_horizon: expected an episode of at least {1 - extra} steps for obs_horizon '
            f'{obs_horizon}, pred_horizon {pred_horizon}, action_horizon {action_horizon}; '
            f'found at most {longest}'
        )
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start, end = np.repeat(starts, counts), np.repeat(ends, counts)
    first = start + within - (obs_horizon - 1)
    learnt = np.ones(len(episodes.action), bool)
    if tag:
        learnt = _tagged(episodes, tag)
        before = np.concatenate([[0], np.cumsum(learnt)])  # learnt rows before each row
        last = np.minimum(first + pred_horizon, end)
        kept = before[last] > before[np.maximum(first, start)]
        first, start, end = first[kept], start[kept], end[kept]
    return Windows(
        obs=jax.tree.map(jnp.asarray, episodes.obs),
        action=jnp.asarray(episodes.action),
        first=jnp.asarray(first, jnp.int32),
        start=jnp.asarray(start, jnp.int32),
        learnt=jnp.asarray(learnt),
        end=jnp.asarray(end, jnp.int32),
        obs_horizon=obs_horizon,
        pred_horizon=pred_horizon,
    )


def _tagged(episodes: episodes_lib.Episodes, tag: str) -> np.ndarray:
    """Which rows carry a tag, [n] bool."""
    if tag not in episodes.tags:
        raise ValueError(f'data.tag: expected one of {sorted(episodes.tags)}, found {tag!r}')
    found = episodes.tags[tag] > 0
    if not found.any():
        raise ValueError(f'data.tag: no row of the data carries {tag!r}')
    return found


def num_windows(windows: Windows) -> int:
    """How many windows there are; valid indices are 0 .. num_windows - 1."""
    return windows.first.shape[0]


def gather(windows: Windows, index: jax.Array) -> Chunk:
    """Gathers the windows at `index` [B] as a Chunk of batch B; works inside jit and scan."""
    start, end = windows.start[index, None], windows.end[index, None]  # [B, 1]
    row = windows.first[index, None] + jnp.arange(windows.pred_horizon)  # [B, Tp]
    inside = (row >= start) & (row < end)
    row = jnp.clip(row, start, end - 1)
    observed = row[:, : windows.obs_horizon]
    return Chunk(
        obs=jax.tree.map(lambda x: x[observed], windows.obs),
        action=windows.action[row],
        mask=inside & windows.learnt[row],
    )


def check_horizons(obs_horizon: int, pred_horizon: int, action_horizon: int) -> None:
    """Raises a ValueError with the numbers unless 1 <= To <= Tp, 1 <= Ta, To - 1 + Ta <= Tp."""
    found = (
        f'obs_horizon {obs_horizon}, pred_horizon {pred_horizon}, action_horizon {action_horizon}'
    )
    if min(obs_horizon, pred_horizon, action_horizon) < 1:
        raise ValueError(f'horizons: expected each to be at least 1, found {found}')
    if obs_horizon > pred_horizon:
        raise ValueError(f'horizons: expected obs_horizon <= pred_horizon, found {found}')
    if (needed := obs_horizon - 1 + action_horizon) > pred_horizon:
        raise ValueError(
            f'horizons: expected obs_horizon - 1 + action_horizon <= pred_horizon, '
            f'found {needed} > {pred_horizon} ({found})'
        )
