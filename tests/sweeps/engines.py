"""Engines for tests: they end jobs as they are told to, in this process."""

import contextlib
import json

from jaxpolicy.io import metrics
from jaxpolicy.sweeps import driver, engine, plan

CONFIG = {'eval': {'num_episodes': 7}}


def planned(name, seeds=(0,), **fields):
    """A run of four rounds, whose score is `success_max`."""
    run = plan.Planned(
        name=name,
        setting=name,
        identity=f'{name}{seeds[0]}',
        config=plan.mark(CONFIG),
        workdir=f'runs/{name}{seeds[0]}',
        task='pendulum',
        recipe='configs/smoke/ppo.py',
        changes={'agent.gamma': 0.9},
        overrides=[['agent.gamma', '0.9']],
        seeds=list(seeds),
        score='success_max',
        num_rounds=4,
        budget=0,
    )
    return run._replace(**fields)


def alone(runs):
    """Each run as a group of its own."""
    return [[run] for run in runs]


def run_alone(folder, runs, *more, **options):
    """Trains runs, each of which has a program of its own."""
    return driver.run_all(folder, alone(runs), *more, **options)


def write_rows(directory, values, config=CONFIG):
    """Rows of metrics, one a round; each value is a list with a number for each seed, or None."""
    writer = metrics.open_writer(directory, tensorboard=False)
    writer.truncate(0)
    for index, each in enumerate(values, start=1):
        row = {'time/train_s': 2.0 * index, 'time/compile_s': 1.0}
        for i, value in enumerate(each or ()):
            prefix = f'seed{i}/' if len(each) > 1 else ''
            row |= {f'{prefix}eval/success_max': value, 'time/eval_s': 0.5}
        writer.write(row, index, 100 * index, 10 * index)
    writer.close()
    record = {'config': config, 'seed': 0, 'versions': {'device': '1 x x'}}
    (directory / 'config.json').write_text(json.dumps(record))


class Engine:
    """Ends each job at the second look; ends: name of the workdir -> a list of what it does next.

    What it does is a function of the job, which returns the exit status, or a text that says why
    the job was lost; None: it runs until it is stopped. A job that has nothing left to do ends with
    0. there: names of the workdirs whose jobs run already.
    """

    def __init__(self, ends=None, num_slots=1, there=()):
        self.ends, self.started, self.killed, self.most = ends or {}, [], 0, 0
        self.engine = engine.Engine(num_slots, self._start, self._attach, self._together)
        self.there, self.batches, self._running = {*there}, [], {}

    @contextlib.contextmanager
    def _together(self):
        before = len(self.started)
        yield
        self.batches.append(len(self.started) - before)

    def _attach(self, job):
        if job.workdir.name not in self.there:
            return None
        self.there.remove(job.workdir.name)
        return engine.Handle(lambda: engine.Ended(0, 2_000), lambda: None, lambda: None)

    def _start(self, job, slot):
        name = job.workdir.name
        assert job.workdir.parent.is_dir() and slot not in self._running
        self.started.append((name, job.arguments))
        self._running[slot], looks, stopped = name, [], []
        self.most = max(self.most, len(self._running))
        does = (self.ends.get(name) or [lambda job: 0]).pop(0)

        def poll():
            looks.append(1)
            if (does is None and not stopped) or len(looks) < 2:
                return None
            self._running.pop(slot, None)
            exit_status = does(job) if does else 1
            if isinstance(exit_status, str):
                return engine.Ended(1, None, exit_status)
            if not exit_status and not (job.workdir / 'config.json').exists():
                write_rows(job.workdir, [])
            return engine.Ended(exit_status, 1_000)

        def kill():
            self.killed += 1

        return engine.Handle(poll, lambda: stopped.append(1), kill)
