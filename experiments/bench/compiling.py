"""Where the wait before training goes: python -m experiments.bench.compiling --config=configs/...

For each program of training (the first state, a round, the evaluation) it reports the seconds of
tracing it in Python, of lowering it to StableHLO and of XLA's compilation, and the lines of
StableHLO, one program after the other and nothing from a cache on disk. Then it compiles all of
them anew as training does, beside each other. `--out=FILE` writes JSON.
"""

import time
from typing import Any

import jax
from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import paths, workdir
from jaxpolicy.runs import compiling, evaluation, kinds, program

FLAGS = flags.FLAGS


def tasks_of(config, num_seeds: int) -> dict[str, compiling.Task]:
    """The programs of a run, in the order in which training needs them."""
    run = kinds.make_run(config)
    made = program.of_run(run, 0, num_seeds, None)
    found = {}
    if made.jitted:
        found['first state'] = compiling.Task(made.jitted['init'], (made.first,))
        found['round'] = compiling.Task(made.jitted['step'], (made.template, run.data))
    if config.eval.every:
        evaluator = evaluation.make(config, num_seeds)
        task = evaluator.task(evaluator.template, config.eval.num_episodes)
        found |= {'evaluation': task} if task else {}
    return found


def measure(config, num_seeds: int) -> dict[str, Any]:
    """Seconds of each stage of each program, and of all of them together."""
    found: dict[str, Any] = {}
    begin = time.perf_counter()
    tasks = tasks_of(config, num_seeds)
    build_s = time.perf_counter() - begin
    with compiling.Compiler(workers=1) as compiler:
        for name, task in tasks.items():
            compiler.add(name, task, count_lines=True)
            stages = compiler.wait(name)
            assert stages is not None
            found[name] = stages._asdict()
    jax.clear_caches()
    begin = time.perf_counter()
    tasks = tasks_of(config, num_seeds)
    with compiling.Compiler() as compiler:
        for name, task in tasks.items():
            compiler.add(name, task)
        for name in tasks:
            compiler.wait(name)
            found[name]['ready_after_s'] = time.perf_counter() - begin
    return {'build_s': build_s, 'programs': found}


def show(result: dict[str, Any]) -> None:
    """Prints a table."""
    print(f'building the run: {result["build_s"]:.1f} s')
    names = ('trace_s', 'lower_s', 'xla_s', 'lines', 'ready_after_s')
    print(f'{"program":14s}' + ''.join(f'{name:>15s}' for name in names))
    for name, stages in result['programs'].items():
        print(f'{name:14s}' + ''.join(f'{stages[n]:>15,.4g}' for n in names))


def main(_):
    jax.config.update('jax_enable_compilation_cache', False)
    result = measure(FLAGS.config, FLAGS.num_seeds)
    show(result)
    if FLAGS.out:
        result |= {'config': FLAGS.config.to_dict(), 'versions': workdir.versions()}
        paths.write_json(FLAGS.out, result)


if __name__ == '__main__':
    config_flags.define_config(required=True)
    flags.DEFINE_integer('num_seeds', 1, 'Seeds trained together.', lower_bound=1)
    config_flags.define_output('out', None, 'Write the figures to this JSON file.')
    config_flags.run_main(main)
