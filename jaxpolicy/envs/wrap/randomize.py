# pyright: reportAttributeAccessIssue=false
# (MuJoCo is a compiled module without type stubs.)
"""Domain randomisation: every episode draws parameters of the physics and the task anew.

An entry of the config says which parameters vary and how:

  ('body_mass+body_inertia', 'scale', 'uniform', 0.8, 1.2)
  ('actuator_gainprm[0]+actuator_biasprm[1]', 'scale', 'log_uniform', 0.7, 1.4)   the gain kp
  ('dof_damping', 'scale', 'uniform', 0.5, 2.0, 'elbow_pitch', 'wrist_pitch')
  ('env.action_scale', 'add', 'normal', 0.0, 0.005)

First come the fields of `mjx.Model`, or 'env.' and the name of a number in the task's Config. Each
row of a field (each body, joint, geom or actuator) gets a draw of its own. Names or numbers at the
end of the entry choose rows; without them all rows vary. Fields joined by '+' share their draws, so
that what belongs together stays consistent, and '[i]' chooses one column. Then comes 'scale', 'add'
or 'set', and then 'uniform' (low, high), 'log_uniform' (low, high) or 'normal' (mean, standard
deviation). Later entries change what earlier ones have drawn.

The environment's state carries what was drawn, and only the leaves that vary. So each of thousands
of robots differs from the others, and differs again after its next reset.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx

from jaxpolicy.types import Key

Overrides = Mapping[str, jax.Array]  # an episode's values of fields of mjx.Model and 'env.<name>'
# (mjx.Model, the task's Config, key) -> the values that an episode draws
Draw = Callable[[Any, Any, Key], dict[str, jax.Array]]
C = TypeVar('C')

OPERATIONS = ('scale', 'add', 'set')
DISTRIBUTIONS = ('uniform', 'log_uniform', 'normal')
ENV = 'env.'
# The kind of object that each row of a field belongs to, by the first word of the field's name.
_OBJECTS = {
    'body': 'BODY',
    'jnt': 'JOINT',
    'dof': 'JOINT',
    'geom': 'GEOM',
    'site': 'SITE',
    'actuator': 'ACTUATOR',
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the config: some fields, and how they vary."""

    key: str  # the entry's name in the config, for messages
    fields: tuple[tuple[str, int | None], ...]  # (field, column or None for all); they share draws
    operation: str
    distribution: str
    low: float  # or the mean
    high: float  # or the standard deviation
    rows: tuple[str | int, ...] = ()  # names of bodies, joints and so on, or row numbers; (): all


def parse(group: Mapping[str, Sequence[Any]]) -> tuple[Entry, ...]:
    """Reads entries from a config's group.

    Args:
      group: name -> (fields, operation, distribution, number, number, *rows), see the module.

    Raises:
      ValueError: an entry does not have that form.
    """
    entries = []
    for key, value in group.items():
        kinds = (str, str, str, int | float, int | float)
        if (
            not isinstance(value, tuple | list)
            or len(value) < len(kinds)
            or not all(map(isinstance, value, kinds))
            or not all(isinstance(row, str | int) for row in value[5:])
        ):
            raise ValueError(
                f'randomize.{key}: expected (fields, operation, distribution, number, number, '
                f'rows...), found {value!r}'
            )
        text, operation, distribution, low, high, *rows = value
        for what, allowed, found in (
            ('an operation', OPERATIONS, operation),
            ('a distribution', DISTRIBUTIONS, distribution),
        ):
            if found not in allowed:
                raise ValueError(f'randomize.{key}: expected {what} of {allowed}, found {found!r}')
        if distribution == 'log_uniform' and not 0 < low <= high:
            raise ValueError(f'randomize.{key}: expected 0 < low <= high, found {low} and {high}')
        if distribution == 'uniform' and not low <= high:
            raise ValueError(f'randomize.{key}: expected low <= high, found {low} and {high}')
        if distribution == 'normal' and high < 0:
            raise ValueError(f'randomize.{key}: expected a deviation of 0 or more, found {high}')
        fields = tuple(_field(key, part) for part in text.split('+'))
        entries.append(Entry(key, fields, operation, distribution, low, high, tuple(rows)))
    return tuple(entries)


def drawer(entries: Sequence[Entry]) -> Draw:
    """Builds the function that a task's `make` takes, which draws an episode's values.

    Raises (when a task calls it):
      ValueError: there is no such field, column, row, or parameter of the task.
    """

    def draw(model: Any, config: Any, key: Key) -> dict[str, jax.Array]:
        found: dict[str, jax.Array] = {}
        for entry, entry_key in zip(entries, jax.random.split(key, len(entries)), strict=True):
            sample = None
            for name, column in entry.fields:
                old = found[name] if name in found else _nominal(entry, model, config, name)
                shape = old.shape[:1]
                if sample is not None and sample.shape != shape:
                    raise ValueError(
                        f'randomize.{entry.key}: expected {sample.shape} rows in {name} as in the '
                        f'field before, found {shape}'
                    )
                sample = _sample(entry, entry_key, shape)
                found[name] = _apply(entry, name, column, old, sample, model)
        return found

    return draw


def from_playground(randomization_fn: Callable) -> Draw:
    """Builds a `Draw` from a randomisation function in Playground's style, called for one world.

    Args:
      randomization_fn: (model, raw keys [B, 2]) -> (model, in_axes).
    """

    def draw(model: Any, config: Any, key: Key) -> dict[str, jax.Array]:
        del config
        batch, in_axes = randomization_fn(model, jax.random.key_data(key)[None])
        leaves, axes = (
            jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)[0]
            for tree in (batch, in_axes)
        )
        return {
            jax.tree_util.keystr(path, simple=True, separator='.'): leaf[0]
            for (path, leaf), (_, axis) in zip(leaves, axes, strict=True)
            if axis is not None
        }

    return draw


def physical(overrides: Overrides) -> dict[str, jax.Array]:
    """Chooses the overrides that are fields of the model."""
    return {name: value for name, value in overrides.items() if not name.startswith(ENV)}


def configured(config: C, overrides: Overrides) -> C:
    """The task's Config with the numbers that this episode drew.

    Under jit these are traced, so that they serve in arithmetic but not in an `if`.
    """
    drawn = {n.removeprefix(ENV): x for n, x in overrides.items() if n.startswith(ENV)}
    return dataclasses.replace(config, **drawn) if drawn else config  # pyright: ignore


def _field(key: str, text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r'([\w.]+?)(?:\[(\d+)\])?', text.strip())
    if match is None:
        raise ValueError(f"randomize.{key}: expected 'field' or 'field[column]', found {text!r}")
    name, column = match.groups()
    return name, None if column is None else int(column)


def _nominal(entry: Entry, model: Any, config: Any, name: str) -> jax.Array:
    """The value of a field without randomisation, float32."""
    if name.startswith(ENV):
        fields = {} if config is None else dataclasses.asdict(config)
        known = {f'{ENV}{n}': x for n, x in fields.items() if isinstance(x, float)}
    else:
        known = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
        known |= {
            f'opt.{f.name}': getattr(model.opt, f.name) for f in dataclasses.fields(model.opt)
        }
        arrays = (jax.Array, np.ndarray)  # so neither sizes nor indices
        known = {n: x for n, x in known.items() if isinstance(x, arrays) and x.dtype.kind == 'f'}
    if name not in known:
        close = difflib.get_close_matches(name, known) or [n for n in known if ENV in n]
        raise ValueError(
            f'randomize.{entry.key}: no number is called {name!r}; did you mean one of {close}?'
        )
    return jnp.asarray(known[name], jnp.float32)


def _sample(entry: Entry, key: Key, shape: tuple[int, ...]) -> jax.Array:
    if entry.distribution == 'normal':
        return entry.low + entry.high * jax.random.normal(key, shape)
    if entry.distribution == 'log_uniform':
        low, high = jnp.log(entry.low), jnp.log(entry.high)
        return jnp.exp(jax.random.uniform(key, shape, minval=low, maxval=high))
    return jax.random.uniform(key, shape, minval=entry.low, maxval=entry.high)


def _apply(entry: Entry, name: str, column: int | None, old, sample, model) -> jax.Array:
    """Applies the sample [rows] to the chosen rows and column of a field."""
    if column is not None and (old.ndim != 2 or column >= old.shape[1]):
        raise ValueError(
            f'randomize.{entry.key}: {name}[{column}] does not exist; its shape is {old.shape}'
        )
    spread = sample.reshape(sample.shape + (1,) * (old.ndim - sample.ndim))
    new = {'scale': old * spread, 'add': old + spread, 'set': jnp.broadcast_to(spread, old.shape)}
    chosen = np.ones(old.shape, bool)
    if column is not None:
        chosen &= np.arange(old.shape[1]) == column
    if entry.rows:
        chosen &= _chosen_rows(entry, name, old, model).reshape(spread.shape)
    return jnp.where(chosen, new[entry.operation], old)


def _chosen_rows(entry: Entry, name: str, old: jax.Array, model: mjx.Model) -> np.ndarray:
    """[rows] bool: the rows of a field that the entry's names and numbers choose."""
    count = old.shape[0] if old.ndim else 0
    chosen = np.zeros(count, bool)
    for row in entry.rows:
        if isinstance(row, int) and not 0 <= row < count:
            raise ValueError(f'randomize.{entry.key}: {name} has {count} rows, found {row}')
        chosen[row if isinstance(row, int) else _named_rows(entry, name, row, model)] = True
    return chosen


def _named_rows(entry: Entry, field: str, name: str, model: mjx.Model) -> np.ndarray:
    """The rows of a field that belong to a body, joint, geom, site or actuator."""
    kind = _OBJECTS.get(field.split('_')[0])
    if kind is None:
        raise ValueError(
            f'randomize.{entry.key}: the rows of {field} have no names, found {name!r}'
        )
    index = mjx.name2id(model, getattr(mujoco.mjtObj, f'mjOBJ_{kind}'), name)
    if index < 0:
        raise ValueError(f'randomize.{entry.key}: {field} has no {kind.lower()} called {name!r}')
    owners = np.asarray(model.dof_jntid) if field.startswith('dof_') else None
    return np.array([index]) if owners is None else np.flatnonzero(owners == index)
