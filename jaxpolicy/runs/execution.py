"""The training of a run: rounds, metrics, evaluations and checkpoints.

Several settings of a run can share a program (`program.of_settings`). Each has a workdir of its
own, whose files are those that training it alone would write.

The device is given round i + 1 before the metrics of round i are read, and another thread writes
the checkpoints, so that neither keeps the device waiting. An evaluation does interrupt training,
because its episodes need the same device. Its program is compiled while the first rounds run.
"""

import contextlib
import functools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from jaxpolicy import sharding
from jaxpolicy.io import checkpoint, progress, summary
from jaxpolicy.runs import compiling, continuing, evaluation, kinds, program, sections

_copy_tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


@functools.partial(jax.jit, static_argnums=1)
def _all_finite(tree, num_axes: int):
    """Whether all numbers are finite, bool [], or of the shape of the first axes of all leaves."""

    def one(tree):
        return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))

    for _ in range(num_axes):
        one = jax.vmap(one)
    return one(tree)


@jax.jit
def _part(tree, index):
    """The part of a tree that belongs to one of several settings; it is a copy."""
    return jax.tree.map(lambda x: x[index], tree)


COUNTS: tuple[str, ...] = ('updates', 'env_steps')  # what the metrics of a round count


class Place(NamedTuple):
    """Where a setting is trained: its config, its workdir, and what writes checkpoints and rows."""

    config: config_dict.ConfigDict
    directory: Path
    manager: Any
    writer: Any


class Trainer:
    """Trains a run in this process; its method `run` does all the work.

    Args:
      places: of the settings; more than one share the program.
      run: its data are what the program takes.
      evaluator: of the config, or None. With `numbers`, it takes pairs of a train state and them.
      compiled: the program of the run, or of the settings.
      numbers: what the settings of `program.of_settings` differ in; None for a run alone.
    """

    def __init__(
        self,
        places: Sequence[Place],
        run: kinds.Run,
        evaluator: Any,
        compiled: program.Program,
        numbers: Mapping[str, np.ndarray] | None = None,
    ):
        self._places, self._run = places, run
        self._config = places[0].config  # the settings differ in numbers of the agent alone
        self._evaluator, self._program, self._numbers = evaluator, compiled, numbers
        self._pending: list[tuple[int, Any, Any]] = []  # rounds whose metrics nobody has read yet
        # Counts up to the last row, as Python's integers, which do not overflow.
        self._done: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self._sound: list[Any] = [True] * len(places)  # whose numbers are finite, each [S] bool
        # Seconds of either, evaluations left out; each setting counts its share of them.
        self._train_s = self._compile_s = 0.0
        self._since = time.perf_counter()  # the time up to which they count

    def run(self, request) -> tuple[Any, bool]:
        """Runs rounds to the last one or a signal; returns the last state and whether all ran."""
        run, config = self._run, self._config
        begin = checkpoint.latest_step(self._places[0].manager)
        bar = progress.Progress(run.num_rounds, begin or 0, 'round')
        with bar, compiling.Compiler() as compiler:
            with self._apart(bar, 'compiling the update'):
                state, index = self._start(begin, compiler)
                compiler.wait('step')
            stopped = jax.process_count() == 1 and request.received
            while index < run.num_rounds and not stopped:
                if index == (begin or 0) and 'step' not in self._program.jitted:
                    with self._apart(bar, 'compiling the first round'):
                        state, found = self._program.step(state, run.data)
                else:
                    state, found = self._program.step(state, run.data)
                index += 1
                losses = {name: x for name, x in found.items() if name.endswith('loss')}
                sound = _all_finite((state.train.params, losses), np.ndim(found['updates']))
                if run.keep:
                    run.keep(self._places[0].directory, state, index)
                self._pending.append((index, found, sound))
                stopped = sharding.stop_agreed(request.received, index)
                last = stopped or index == run.num_rounds
                evaluate = index == run.num_rounds or _due(index, config.eval.every)
                if evaluate or last or _due(index, config.checkpoint.every):
                    self._save(state, index, evaluate, bar, compiler)
                else:
                    self._write(keep=1)  # the device still computes the round that is kept
                bar.update(index - len(self._pending), self._done)  # the rounds that are over
        for place in self._places:
            place.manager.wait_until_finished()
        if index < run.num_rounds:
            where = (
                f'after round {index} of {run.num_rounds}' if index else 'before the first round'
            )
            print(f'stopped {where}', file=sys.stderr)
        return state, index == run.num_rounds

    @contextlib.contextmanager
    def _apart(self, bar: progress.Progress, what: str):
        """A context for compiling, which is said, and whose seconds are counted for themselves."""
        self._count_time()
        with bar.apart(what):
            yield
        now = time.perf_counter()
        self._compile_s += (now - self._since) / len(self._places)
        self._since = now

    def _start(self, index: int | None, compiler: compiling.Compiler):
        """The state to begin with and its round: a new state, or the last one that was saved.

        Rows of metrics that were written after the saved state are dropped. The programs that
        follow are traced, and compile meanwhile.
        """
        compiled, data = self._program, self._run.data
        if index is None:
            for place in self._places:
                place.writer.truncate(0)
            if 'init' in compiled.jitted:
                compiler.add('init', compiling.Task(compiled.jitted['init'], compiled.first))
            if self._run.begin is None:  # else the first state may lie elsewhere
                self._compile(compiler, compiled.template, data)
            compiler.wait('init')
            state = compiled.init()
            if self._run.begin is not None:
                self._compile(compiler, state, data)
            return state, 0
        state, meta = self._restore(index)
        if index < self._run.num_rounds:
            self._compile(compiler, state, data)
        self._train_s, self._compile_s = meta['train_s'], meta.get('compile_s', 0.0)
        # Runs of older versions did not save the counts; their last row has them.
        last = self._places[0].writer.last_row() if 'updates' not in meta else meta
        self._done = {name: int(last[name]) for name in COUNTS}
        print(f'continuing after update {self._done["updates"]}', file=sys.stderr)
        return state, index

    def _restore(self, index: int) -> tuple[Any, dict[str, Any]]:
        """The state that was saved after a round, and its facts (of the first setting)."""
        shapes, states, metas = self._program.template, [], []
        if self._numbers is not None:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes)
        for place in self._places:
            state, meta = checkpoint.restore(place.manager, index, shapes)
            place.writer.truncate(meta['rows'])
            states.append(state)
            metas.append(meta)
        if self._numbers is None:
            return states[0], metas[0]
        return jax.tree.map(lambda *x: jnp.stack(x), *states), metas[0]

    def of_setting(self, train: Any, index: int) -> Any:
        """What the evaluation takes of the train state, or its shapes, of all settings."""
        if self._numbers is None:
            return train
        if isinstance(jax.tree.leaves(train)[0], jax.ShapeDtypeStruct):
            train = jax.eval_shape(lambda tree: _part(tree, 0), train)
        else:
            train = _part(train, index)
        shape = np.shape(self._program.first[-1])  # of the seeds
        numbers = {name: np.full(shape, x[index]) for name, x in self._numbers.items()}
        return train, numbers

    def _compile(self, compiler: compiling.Compiler, state, data) -> None:
        """Begins to compile a round and the evaluation; `state` may be made of shapes."""
        if 'step' in self._program.jitted:
            compiler.add('step', compiling.Task(self._program.jitted['step'], (state, data)))
        if self._evaluator:
            train, num_episodes = self.of_setting(state.train, 0), self._config.eval.num_episodes
            task = self._evaluator.task(train, num_episodes)
            if task:
                compiler.add('evaluation', task)
            names = self._evaluator.names(train, num_episodes)
            sections.metric_names(self._config, names)

    def _write(self, keep: int = 0, extras: Sequence[dict] = ()) -> None:
        """Writes the rows of all pending rounds but the last `keep`.

        Args:
          extras: what joins the last row of each setting; () for nothing.

        Raises:
          ValueError: nobody's numbers are finite any more.
        """
        while len(self._pending) > keep:
            index, found, sound = self._pending.pop(0)
            rows, before = jax.device_get(found), self._done['updates']
            for name in COUNTS:  # the same for all settings and seeds
                self._done[name] += int(np.asarray(rows.pop(name)).reshape(-1)[0])
            self._count_time()
            updates = f'updates {before + 1} to {self._done["updates"]}'
            for at in self._going():
                row = rows if self._numbers is None else {n: x[at] for n, x in rows.items()}
                row = {f'train/{name}': x for name, x in row.items()}
                row |= {'time/train_s': self._train_s, 'time/compile_s': self._compile_s}
                row |= extras[at] if extras and not self._pending else {}
                self._places[at].writer.write(summary.over_seeds(row), index, **self._done)
                mine = np.asarray(sound) if self._numbers is None else np.asarray(sound)[at]
                self._check(at, f'round {index}, {updates}', mine)
            if not self._going():
                raise ValueError('training stops, as no numbers are left that are finite')

    def _going(self) -> list[int]:
        """The settings that go on: those with a seed whose numbers are finite."""
        return [at for at, sound in enumerate(self._sound) if np.any(sound)]

    def _check(self, at: int, when: str, sound: np.ndarray) -> None:
        """Says whose numbers are no longer finite, given [] or [S] whether they are.

        Raises:
          ValueError: nobody's are in a run alone, so that there is nothing to go on with.
        """
        sound = np.atleast_1d(sound)
        lost = np.flatnonzero(~sound & self._sound[at])
        self._sound[at] = sound
        if not len(lost):
            return
        who = f'of seeds {", ".join(map(str, lost))} of the {len(sound)} ' if len(sound) > 1 else ''
        text = f'the loss or the parameters {who}are no longer finite in {when}'
        where = '' if self._numbers is None else f'{self._places[at].directory}: '
        if sound.any():
            print(f'warning: {where}{text}', file=sys.stderr)
            return
        manager = self._places[at].manager
        manager.wait_until_finished()
        last = checkpoint.latest_step(manager)
        kept = 'no checkpoint was saved before' if last is None else f'checkpoint {last} is kept'
        text = f'{where}{text}: training stops, and {kept}; try a lower learning rate'
        if self._numbers is None:
            raise ValueError(text)
        print(text, file=sys.stderr)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self._train_s += (now - self._since) / len(self._places)
        self._since = now

    def _save(self, state, index: int, evaluate: bool, bar, compiler) -> None:
        """Evaluates if asked to, writes every row, and has a copy of the state saved."""
        jax.block_until_ready(state.train.step)
        if not np.any(np.asarray(self._pending[-1][2])):
            self._write()  # says so, and stops before anything is saved
        self._count_time()
        extras: list[dict[str, Any]] = [{} for _ in self._places]
        if evaluate and self._evaluator:
            with self._apart(bar, 'compiling the evaluation'):
                compiler.wait('evaluation')
            sound = np.asarray(self._pending[-1][2])
            for at in self._going():
                if self._numbers is None or np.any(sound[at]):
                    extras[at] = self._evaluate(state.train, at, bar)
            self._since = time.perf_counter()
        self._write(extras=extras)
        meta = self._done | {'round': index, 'train_s': self._train_s}
        meta |= {'compile_s': self._compile_s, 'data': self._run.fingerprint}
        for at in self._going():
            place = self._places[at]
            # A copy is saved, as the next round reuses the state's memory while saving goes on.
            mine = _copy(state) if self._numbers is None else _part(state, at)
            score = extras[at].get(f'eval/{place.config.eval.score}')
            score = None if score is None else float(np.mean(score))
            facts = meta | {'rows': place.writer.num_rows}
            scored_by = continuing.scored_by(place.config)
            checkpoint.save(place.manager, index, mine, facts, score, scored_by)

    def _evaluate(self, train, at: int, bar) -> dict[str, Any]:
        """What the evaluation of a setting adds to its row."""
        begin, config = time.perf_counter(), self._places[at].config
        found: dict[str, Any] = evaluation.means(
            config, self._evaluator, self.of_setting(train, at)
        )
        found['time/eval_s'] = time.perf_counter() - begin
        bar.evaluation({k: v for k, v in summary.over_seeds(found).items() if k in found})
        return found


def _copy(state):
    """A copy of the state; the memory is copied apart, as it may lie on another device."""
    rest = _copy_tree(state.replace(memory=()))
    return rest.replace(memory=_copy_tree(state.memory))


def _due(index: int, every: int) -> bool:
    return bool(every) and index % every == 0
