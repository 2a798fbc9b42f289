"""The loop around a training program: metrics, evaluations and checkpoints, without stalls.

The device is handed step i + 1 before the metrics of step i are read, and checkpoints are written
by another thread, so that neither holds it up. An evaluation does: its episodes need the device.
"""

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from jaxpolicy import sharding
from jaxpolicy.io import checkpoint, progress, summary
from jaxpolicy.runs import build, evaluation

_copy_tree = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def _copy(state):
    """The memory apart, as it may lie on another device."""
    rest = _copy_tree(state.replace(memory=()))
    return rest.replace(memory=_copy_tree(state.memory))


class Trainer:
    """One run in this process; `run` does all of it."""

    def __init__(self, config, run: build.Run, evaluator, compiled, manager, writer, keep=None):
        self._config, self._run, self._evaluator = config, run, evaluator
        self._program, self._manager, self._writer = compiled, manager, writer
        self._keep = keep  # (state, step): writes what a step leaves behind besides the state
        self._pending: list[tuple[int, Any]] = []  # steps whose metrics nobody has read yet
        self._train_s = 0.0  # seconds of training, evaluations left out
        self._since = time.perf_counter()  # up to when `_train_s` counts

    def run(self, request) -> tuple[Any, bool]:
        """Steps until the end or a signal; returns the last state and whether it is the end."""
        run, config = self._run, self._config
        state, step = self._start()
        bar = progress.Progress(run.updates(run.num_steps), run.updates(step), 'update')
        self._since = time.perf_counter()
        with bar:
            while step < run.num_steps:
                state, metrics = self._program.step(state, run.data)
                step += 1
                if self._keep:
                    self._keep(state, step)
                self._pending.append((step, metrics))
                stopped = sharding.stop_agreed(request.received, step)
                last = stopped or step == run.num_steps
                evaluate = step == run.num_steps or _due(step, config.eval.every)
                if evaluate or last or _due(step, config.checkpoint.every):
                    self._save(state, step, evaluate, bar)
                else:
                    self._write(keep=1)  # the device is busy with the one that is kept
                bar.update(run.updates(step))
                if stopped:
                    break
        self._manager.wait_until_finished()
        return state, step == run.num_steps

    def _start(self):
        """A new state, or the last one that was saved; metrics written after it are dropped."""
        step = checkpoint.latest_step(self._manager)
        if step is None:
            self._writer.truncate(0)
            return self._program.init(), 0
        state, meta = checkpoint.restore(self._manager, step, self._program.template)
        build.check_data(self._run, meta['data'])
        self._writer.truncate(meta['rows'])
        self._train_s = meta['train_s']
        print(f'continuing after update {self._run.updates(step)}', file=sys.stderr)
        return state, step

    def _write(self, keep: int = 0, extra: dict | None = None) -> None:
        """Writes the rows of all pending steps but the last `keep`; `extra` joins the last row."""
        while len(self._pending) > keep:
            step, metrics = self._pending.pop(0)
            row = {f'train/{name}': x for name, x in jax.device_get(metrics).items()}
            self._count_time()
            row['time/train_s'] = self._train_s
            row |= extra if extra and not self._pending else {}
            updates = self._run.updates(step)
            env_steps = self._run.env_steps(step)
            self._writer.write(summary.over_seeds(row), env_steps, updates, step)

    def _count_time(self) -> None:
        now = time.perf_counter()
        self._train_s, self._since = self._train_s + now - self._since, now

    def _save(self, state, step: int, evaluate: bool, bar) -> None:
        """Evaluates if asked to, writes every row, and has a copy of the state saved."""
        score = None
        extra: dict[str, Any] = {}
        jax.block_until_ready(state.train.step)
        self._count_time()
        if evaluate and self._evaluator:
            begin = time.perf_counter()
            extra = evaluation.means(self._config, self._evaluator, state.train)
            score = float(extra[f'eval/{self._config.eval.score}'].mean())
            extra['time/eval_s'] = time.perf_counter() - begin
            self._since = time.perf_counter()
            bar.evaluation({k: v for k, v in summary.over_seeds(extra).items() if k in extra})
        self._write(extra=extra)
        meta = {'step': step, 'train_s': self._train_s}
        meta |= {'rows': self._writer.num_rows, 'data': self._run.fingerprint}
        # A copy, because the next step takes the state's memory while it is being written.
        checkpoint.save(self._manager, step, _copy(state), meta, score)


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
