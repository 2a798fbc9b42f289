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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import sharding
from jaxpolicy.io import checkpoint, progress, summary
from jaxpolicy.runs import compiling, continuing, evaluation, kinds, program, rounds, sections

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
        places: Sequence[rounds.Place],
        run: kinds.Run,
        evaluator: Any,
        compiled: program.Program,
        numbers: Mapping[str, np.ndarray] | None = None,
    ):
        self._places, self._run = places, run
        self._config = places[0].config  # the settings differ in numbers of the agent alone
        self._evaluator, self._program, self._numbers = evaluator, compiled, numbers
        self._rounds = rounds.Rounds(places, numbers is not None)

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
                self._rounds.add(index, found, sound)
                stopped = sharding.stop_agreed(request.received, index)
                last = stopped or index == run.num_rounds
                evaluate = index == run.num_rounds or _due(index, config.eval.every)
                if evaluate or last or _due(index, config.checkpoint.every):
                    self._save(state, index, evaluate, bar, compiler)
                else:
                    self._rounds.write(keep=1)  # the device still computes the round that is kept
                over = index - self._rounds.num_pending
                bar.update(over, self._rounds.done)
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
        self._rounds.count_training()
        with bar.apart(what):
            yield
        self._rounds.count_compiling()

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
        # Runs of older versions did not save the counts; their last row has them.
        last = self._places[0].writer.last_row() if 'updates' not in meta else meta
        self._rounds.go_on(meta, last)
        print(f'continuing after update {self._rounds.done["updates"]}', file=sys.stderr)
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

    def _save(self, state, index: int, evaluate: bool, bar, compiler) -> None:
        """Evaluates if asked to, writes every row, and has a copy of the state saved."""
        jax.block_until_ready(state.train.step)
        sound = self._rounds.last_sound()
        if not np.any(sound):
            self._rounds.write()  # says so, and stops before anything is saved
        self._rounds.count_training()
        extras: list[dict[str, Any]] = [{} for _ in self._places]
        if evaluate and self._evaluator:
            with self._apart(bar, 'compiling the evaluation'):
                compiler.wait('evaluation')
            for at in self._rounds.going():
                if self._numbers is None or np.any(sound[at]):
                    extras[at] = self._evaluate(state.train, at, bar)
            self._rounds.leave_out()
        self._rounds.write(extras=extras)
        meta = self._rounds.facts() | {'round': index, 'data': self._run.fingerprint}
        for at in self._rounds.going():
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
