"""Strict, atomic checkpoints of a training run, on orbax.

A checkpoint has three items: `train` (the TrainState, all that evaluation needs), `loop` (the
environment, the key, the policy's memory) and `meta` (JSON: the caller's dict and a manifest of
every leaf). Trees are stored as flat dicts from leaf path to array, so that the manifest and the
template are compared leaf by leaf before anything is restored: orbax alone fills in what it finds
and stays silent about the rest. Nothing is ever unpickled.
"""

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxpolicy.types import LoopState

PyTree = Any
Manifest = dict[str, dict[str, Any]]

FOLDER = 'checkpoints'  # in the workdir of a run
METRIC, SCORED_BY = 'score', 'scored_by'
_NO_SCORE = -sys.float_info.max  # orbax wants a number, and JSON knows no infinity
_FORMAT = 1


def open_manager(
    directory: str | Path,
    keep_last: int = 3,
    keep_best: int = 1,
    read_only: bool = False,
    scored_by: int | None = None,
) -> ocp.CheckpointManager:
    """Opens a directory of checkpoints; saves go on in a thread and appear by an atomic rename.

    What a killed process left half-written is removed before the next save, unless `read_only`
    (use that to look at the directory of a run that may still be training).

    Args:
      directory: created if missing.
      keep_last: number of newest checkpoints to keep, at least 1.
      keep_best: number of checkpoints with the highest finite metric to keep as well.
      read_only: neither create, clean nor save.
      scored_by: the `scored_by` of the checkpoints to come; scores of others do not compete.

    Raises:
      ValueError: `keep_last` < 1, or `read_only` and the directory does not exist.
    """
    directory = Path(directory).absolute()
    if keep_last < 1:
        raise ValueError(f'keep_last must be at least 1, found {keep_last}')
    if read_only and not directory.is_dir():
        raise ValueError(f'{directory}: expected a folder of checkpoints, found none')
    policies: list[checkpoint_managers.PreservationPolicy] = [
        checkpoint_managers.LatestN(n=keep_last)
    ]
    if keep_best:
        policies.append(
            checkpoint_managers.BestN(
                get_metric_fn=lambda found: _score(found, scored_by),
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
    options = ocp.CheckpointManagerOptions(
        best_fn=_score,
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        should_save_fn=(lambda step, last: False) if read_only else None,
        create=not read_only,
        cleanup_tmp_directories=not read_only,
        enable_async_checkpointing=True,
    )
    # Handlers by item name, so that a fresh manager knows what the items of an old directory are.
    handlers = {
        'train': ocp.PyTreeCheckpointHandler(),
        'loop': ocp.PyTreeCheckpointHandler(),
        'meta': ocp.JsonCheckpointHandler(),
    }
    with _whole(str(directory)):
        return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)


def save(
    manager: ocp.CheckpointManager,
    step: int,
    state: LoopState,
    meta: Mapping[str, Any],
    metric: float | None = None,
    scored_by: int = 0,
) -> bool:
    """Begins to save a checkpoint; `manager.wait_until_finished()` waits until it is on disk.

    The next save waits for this one, and so does closing the manager. With several processes, all
    of them call this with the same step and their parts of the same arrays.

    Args:
      manager: from `open_manager`.
      step: number that names the checkpoint (epochs, updates, whatever the caller counts).
      state: what the loop needs to go on exactly; its leaves are arrays and typed keys only. Do
        not donate it to anything before the save is finished: pass a copy.
      meta: JSON-serialisable facts to get back from `restore`.
      metric: higher is better; None or a non-finite number leaves it out of the contest.
      scored_by: a number that tells how the metric was measured; only equal ones are compared.

    Returns:
      False if that step was there already (nothing is written), else True.

    Raises:
      ValueError: a leaf is not an array, or the manager is read-only.
    """
    if step in manager.all_steps():
        return False
    train, loop = _flatten(state.train, 'train'), _flatten(_rest(state), 'loop')
    record = {
        'format': _FORMAT,
        'tree': {'train': _manifest(train), 'loop': _manifest(loop)},
        'meta': dict(meta),
    }
    args = ocp.args.Composite(
        train=ocp.args.PyTreeSave(_raw(train)),
        loop=ocp.args.PyTreeSave(_raw(loop)),
        meta=ocp.args.JsonSave(record),
    )
    score = metric if metric is not None and math.isfinite(metric) else _NO_SCORE
    metrics = {METRIC: float(score), SCORED_BY: scored_by}
    if not manager.save(step, args=args, metrics=metrics):
        raise ValueError(f'{manager.directory} was opened read-only')
    return True


def is_empty(directory: str | Path) -> bool:
    """Whether the directory holds no complete checkpoint; it may not exist."""
    if not Path(directory).is_dir():
        return True
    with contextlib.closing(open_manager(directory, read_only=True)) as manager:
        return latest_step(manager) is None


def latest_meta(directory: str | Path) -> dict[str, Any] | None:
    """The `meta` of the newest complete checkpoint; None where there is none, or no directory."""
    if is_empty(directory):
        return None
    with contextlib.closing(open_manager(directory, read_only=True)) as manager:
        return read_meta(manager, max(manager.all_steps()))


def latest_step(manager: ocp.CheckpointManager) -> int | None:
    """The newest complete checkpoint, or None."""
    return max(manager.all_steps(), default=None)


def best_step(manager: ocp.CheckpointManager) -> int | None:
    """The checkpoint with the highest metric (the newest of equals), or None if none has one.

    Only metrics that were measured as the newest one was are compared.
    """
    with _whole(str(manager.directory)):
        found = {step: manager.metrics(step) for step in manager.all_steps()}
    scored = {step: x for step, x in found.items() if x and _score(x) > _NO_SCORE}
    if not scored:
        return None
    scored_by = scored[max(scored)].get(SCORED_BY)
    return max((_score(x, scored_by), step) for step, x in scored.items())[1]


def restore(
    manager: ocp.CheckpointManager, step: int, template: LoopState
) -> tuple[LoopState, dict[str, Any]]:
    """Restores everything, bitwise.

    Args:
      manager: from `open_manager`.
      step: one of the manager's steps.
      template: a state of the same structure, of arrays or of ShapeDtypeStructs
        (`jax.eval_shape(loop.init, key)`). Leaves with a sharding are restored into it.

    Returns:
      (state, the `meta` that was saved).

    Raises:
      ValueError: no such step, or a leaf is missing, extra, misshapen or of another dtype.
    """
    record = _record(manager, step)
    train = _restore_item(manager, step, 'train', template.train, record)
    rest = _restore_item(manager, step, 'loop', _rest(template), record)
    return template.replace(train=train, **rest), record['meta']


def restore_train(manager: ocp.CheckpointManager, step: int, template: PyTree) -> PyTree:
    """Restores the TrainState alone; arguments and errors as `restore`."""
    return _restore_item(manager, step, 'train', template, _record(manager, step))


def read_meta(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """The `meta` that was saved with a checkpoint; errors as `restore`."""
    return _record(manager, step)['meta']


def _score(metrics: Mapping[str, float], scored_by: int | None = None) -> float:
    """The metric; the lowest of all where it was measured in another way than `scored_by`."""
    other = scored_by is not None and metrics.get(SCORED_BY, scored_by) != scored_by
    return -math.inf if other else metrics[METRIC]


def _rest(state: LoopState) -> dict[str, PyTree]:
    return {'env': state.env, 'key': state.key, 'memory': state.memory}


def _flatten(tree: PyTree, item: str) -> dict[str, Any]:
    """{leaf path: leaf}, in tree order."""
    flat = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator='/')
        if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            raise ValueError(f'{item}/{name}: expected an array, found {type(leaf).__name__}')
        if name in flat:
            raise ValueError(f'{item}/{name}: two leaves have this path')
        flat[name] = leaf
    return flat


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _manifest(flat: Mapping[str, Any]) -> Manifest:
    """Shape and dtype of every leaf; 'impl', a key's algorithm, where the leaf is a real key."""
    manifest: Manifest = {}
    for name, leaf in flat.items():
        manifest[name] = {'shape': list(leaf.shape), 'dtype': str(leaf.dtype)}
        if _is_key(leaf) and isinstance(leaf, jax.Array):
            manifest[name]['impl'] = str(jax.random.key_impl(leaf))
    return manifest


def _raw(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves, with typed keys replaced by their uint32 data."""
    return {name: jax.random.key_data(x) if _is_key(x) else x for name, x in flat.items()}


def _record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    manager.wait_until_finished()
    steps = sorted(manager.all_steps())
    if step not in steps:
        raise ValueError(f'no checkpoint {step} in {manager.directory}; it has {steps}')
    with _whole(f'{manager.directory}/{step}'):
        restored = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
        record = restored['meta']
    if not isinstance(record, dict):
        raise ValueError(f'{manager.directory}/{step}: expected an object, found {record!r:.100}')
    if record.get('format') != _FORMAT:
        raise ValueError(
            f'checkpoint {step} in {manager.directory}: expected format {_FORMAT}, '
            f'found {record.get("format")}'
        )
    return record


def _compare(where: str, saved: Manifest, wanted: Manifest) -> None:
    """Raises a ValueError that names every leaf that differs (the first ten of them)."""
    problems = []
    for name in sorted(set(saved) | set(wanted)):
        if name not in saved:
            problems.append(f'{name}: missing in the checkpoint')
        elif name not in wanted:
            problems.append(f'{name}: in the checkpoint, but not expected')
        else:
            for what in ('shape', 'dtype'):
                if saved[name][what] != wanted[name][what]:
                    problems.append(
                        f'{name}: expected {what} {wanted[name][what]}, '
                        f'found {saved[name][what]} in the checkpoint'
                    )
    if problems:
        more = f'\n  and {len(problems) - 10} more' if len(problems) > 10 else ''
        raise ValueError(f'{where} does not fit:\n  ' + '\n  '.join(problems[:10]) + more)


def _restore_item(
    manager: ocp.CheckpointManager, step: int, item: str, template: PyTree, record: dict[str, Any]
) -> PyTree:
    flat = _flatten(template, item)
    saved = record['tree'][item]
    _compare(f'checkpoint {step} in {manager.directory}, {item}', saved, _manifest(flat))
    restore_args = {name: _restore_args(leaf) for name, leaf in flat.items()}
    args = {item: ocp.args.PyTreeRestore(restore_args=restore_args)}
    with _whole(f'{manager.directory}/{step}'):
        restored = manager.restore(step, args=ocp.args.Composite(**args))[item]
    leaves = [_finish(restored[name], saved[name]) for name in flat]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


@contextlib.contextmanager
def _whole(place: str) -> Iterator[None]:
    """A context in which orbax reads; a damaged file becomes a ValueError of one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).split('\n')[0]
        raise ValueError(f'{place}: expected a whole checkpoint, found: {reason:.300}') from error


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    # Leaves without a sharding go through numpy: no device is fixed, and orbax need not guess one.
    if isinstance(leaf, np.ndarray) or leaf.sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(restore_type=jax.Array, sharding=leaf.sharding)


def _finish(array: Any, saved: dict[str, Any]) -> jax.Array:
    if not isinstance(array, jax.Array):
        array = jnp.array(array, copy=True)  # its own buffer, so that it can be donated
    if 'impl' in saved:
        array = jax.random.wrap_key_data(array, impl=saved['impl'])
    if list(array.shape) != saved['shape'] or str(array.dtype) != saved['dtype']:
        raise ValueError(
            f'corrupt checkpoint: expected {saved}, found {array.dtype}{list(array.shape)}'
        )
    return array
