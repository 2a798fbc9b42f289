"""The training of one run: rounds, metrics, evaluations and checkpoints.

The device is given round i + 1 before the metrics of round i are read, and another thread writes
the checkpoints, so that neither keeps the device waiting. An evaluation does interrupt training,
because its episodes need the same device. Its program is compiled while the first rounds run.
"""

import contextlib
import functools
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpolicy import sharding
from jaxpolicy.io import checkpoint, progress, summary
from jaxpolicy.runs import compiling, continuing, evaluation, kinds, sections

_copy_tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


@functools.partial(jax.jit, static_argnums=1)
def _all_finite(tree, several: bool):
    """Whether all numbers are finite, [] bool; for each seed, [S], where leaves lead with [S]."""

    def one(tree):
        return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))

    return jax.vmap(one)(tree) if several else one(tree)


COUNTS: tuple[str, ...] = ('updates', 'env_steps')  # what the metrics of a round count


class Trainer:
    """Trains one run in this process; its method `run` does all the work."""

    def __init__(self, config, directory, run: kinds.Run, evaluator, compiled, manager, writer):
        self._config, self._directory, self._run = config, directory, run
        self._evaluator, self._program = evaluator, compiled
        self._manager, self._writer = manager, writer
        self._pending: list[tuple[int, Any, Any]] = []  # rounds whose metrics nobody has read yet
        # Counts up to the last row, as Python's integers, which do not overflow.
        self._done: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self._sound: Any = True  # whose numbers are finite, [S] bool
        self._train_s = self._compile_s = 0.0  # seconds of either, evaluations left out
        self._since = time.perf_counter()  # the time up to which they count

    def run(self, request) -> tuple[Any, bool]:
        """Runs rounds to the last one or a signal; returns the last state and whether all ran."""
        run, config = self._run, self._config
        begin = checkpoint.latest_step(self._manager)
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
                sound = _all_finite((state.train.params, losses), np.ndim(found['updates']) > 0)
                if run.keep:
                    run.keep(self._directory, state, index)
                self._pending.append((index, found, sound))
                stopped = sharding.stop_agreed(request.received, index)
                last = stopped or index == run.num_rounds
                evaluate = index == run.num_rounds or _due(index, config.eval.every)
                if evaluate or last or _due(index, config.checkpoint.every):
                    self._save(state, index, evaluate, bar, compiler)
                else:
                    self._write(keep=1)  # the device still computes the round that is kept
                bar.update(index - len(self._pending), self._done)  # the rounds that are over
        self._manager.wait_until_finished()
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
        self._compile_s, self._since = self._compile_s + now - self._since, now

    def _start(self, index: int | None, compiler: compiling.Compiler):
        """The state to begin with and its round: a new state, or the last one that was saved.

        Rows of metrics that were written after the saved state are dropped. The programs that
        follow are traced, and compile meanwhile.
        """
        compiled, data = self._program, self._run.data
        if index is None:
            self._writer.truncate(0)
            if 'init' in compiled.jitted:
                compiler.add('init', compiling.Task(compiled.jitted['init'], (compiled.first,)))
            if self._run.begin is None:  # else the first state may lie elsewhere
                self._compile(compiler, compiled.template, data)
            compiler.wait('init')
            state = compiled.init()
            if self._run.begin is not None:
                self._compile(compiler, state, data)
            return state, 0
        state, meta = checkpoint.restore(self._manager, index, compiled.template)
        if index < self._run.num_rounds:
            self._compile(compiler, state, data)
        self._writer.truncate(meta['rows'])
        self._train_s, self._compile_s = meta['train_s'], meta.get('compile_s', 0.0)
        # Runs of older versions did not save the counts; their last row has them.
        last = self._writer.last_row() if 'updates' not in meta else meta
        self._done = {name: int(last[name]) for name in COUNTS}
        print(f'continuing after update {self._done["updates"]}', file=sys.stderr)
        return state, index

    def _compile(self, compiler: compiling.Compiler, state, data) -> None:
        """Begins to compile a round and the evaluation; `state` may be made of shapes."""
        if 'step' in self._program.jitted:
            compiler.add('step', compiling.Task(self._program.jitted['step'], (state, data)))
        if self._evaluator:
            task = self._evaluator.task(state.train, self._config.eval.num_episodes)
            if task:
                compiler.add('evaluation', task)
            names = self._evaluator.names(state.train, self._config.eval.num_episodes)
            sections.metric_names(self._config, names)

    def _write(self, keep: int = 0, extra: dict | None = None) -> None:
        """Writes the rows of all pending rounds but the last `keep`; `extra` joins the last row."""
        while len(self._pending) > keep:
            index, found, sound = self._pending.pop(0)
            row, before = jax.device_get(found), self._done['updates']
            for name in COUNTS:  # the same for all seeds
                self._done[name] += int(np.asarray(row.pop(name)).reshape(-1)[0])
            row = {f'train/{name}': x for name, x in row.items()}
            self._count_time()
            row |= {'time/train_s': self._train_s, 'time/compile_s': self._compile_s}
            row |= extra if extra and not self._pending else {}
            self._writer.write(summary.over_seeds(row), index, **self._done)
            updates = f'updates {before + 1} to {self._done["updates"]}'
            self._check(index, updates, np.asarray(sound))

    def _check(self, index: int, updates: str, sound: np.ndarray) -> None:
        """Says whose numbers are no longer finite after a round, given [] or [S] whether they are.

        Raises:
          ValueError: nobody's are, so that there is nothing to go on with.
        """
        sound = np.atleast_1d(sound)
        lost = np.flatnonzero(~sound & self._sound)
        self._sound = sound
        if not len(lost):
            return
        who = f'of seeds {", ".join(map(str, lost))} of the {len(sound)} ' if len(sound) > 1 else ''
        text = f'the loss or the parameters {who}are no longer finite in round {index}, {updates}'
        if sound.any():
            print(f'warning: {text}', file=sys.stderr)
            return
        self._manager.wait_until_finished()
        last = checkpoint.latest_step(self._manager)
        kept = 'no checkpoint was saved before' if last is None else f'checkpoint {last} is kept'
        raise ValueError(f'{text}: training stops, and {kept}; try a lower learning rate')

    def _count_time(self) -> None:
        now = time.perf_counter()
        self._train_s, self._since = self._train_s + now - self._since, now

    def _save(self, state, index: int, evaluate: bool, bar, compiler) -> None:
        """Evaluates if asked to, writes every row, and has a copy of the state saved."""
        score = None
        extra: dict[str, Any] = {}
        jax.block_until_ready(state.train.step)
        if not np.any(np.asarray(self._pending[-1][2])):
            self._write()  # says so, and stops before anything is saved
        self._count_time()
        if evaluate and self._evaluator:
            with self._apart(bar, 'compiling the evaluation'):
                compiler.wait('evaluation')
            begin = time.perf_counter()
            extra = evaluation.means(self._config, self._evaluator, state.train)
            score = float(extra[f'eval/{self._config.eval.score}'].mean())
            extra['time/eval_s'] = time.perf_counter() - begin
            self._since = time.perf_counter()
            bar.evaluation({k: v for k, v in summary.over_seeds(extra).items() if k in extra})
        self._write(extra=extra)
        meta = self._done | {'round': index, 'train_s': self._train_s}
        meta['compile_s'] = self._compile_s
        meta |= {'rows': self._writer.num_rows, 'data': self._run.fingerprint}
        # A copy is saved, as the next round reuses the state's memory while saving goes on.
        scored_by = continuing.scored_by(self._config)
        checkpoint.save(self._manager, index, _copy(state), meta, score, scored_by)


def _copy(state):
    """A copy of the state; the memory is copied apart, as it may lie on another device."""
    rest = _copy_tree(state.replace(memory=()))
    return rest.replace(memory=_copy_tree(state.memory))


def _due(index: int, every: int) -> bool:
    return bool(every) and index % every == 0
