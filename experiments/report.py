"""The report of sweeps: python -m experiments.report runs/sweep --out=runs/sweep/report

Writes report.html (one page that works offline), report.json, settings.csv and scores.csv into
--out. Every setting is compared with --baseline, by default the one that changes nothing.
--curves=A.csv,B.csv adds learning curves of other people's runs (columns exp_name, env_name, seed,
metric, env_step, value). docs/reports.md says how to read it.
"""

import json
from pathlib import Path

from absl import flags

from jaxpolicy.io import flags as config_flags

FLAGS = flags.FLAGS


def read_reference(path: str | None) -> dict[str, list[float]] | None:
    """Task -> [score that counts 0, score that counts 1], from JSON.

    Raises:
      ValueError: the file is no JSON object.
    """
    if path is None:
        return None
    try:
        found = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f'--reference: {path}: not JSON: {error}') from error
    if not isinstance(found, dict):
        raise ValueError(f'--reference: {path}: expected an object, found {found!r:.80}')
    return found


def main(_):
    # Imports JAX, which `--help` need not wait for.
    from jaxpolicy.sweeps import curves_csv, report_files

    out = Path(FLAGS.out)
    reference = read_reference(FLAGS.reference)
    results = report_files.read([Path(folder) for folder in FLAGS.workdirs or ()], out)
    if FLAGS.curves:
        results += curves_csv.read([Path(path) for path in FLAGS.curves], FLAGS.metric)
    if not results:
        raise ValueError('--workdirs: expected the folder of a sweep, or --curves, found none')
    numbers = report_files.write(
        out, results, FLAGS.baseline, FLAGS.checkpoint == 'best', FLAGS.at, reference
    )
    for row in numbers['settings'][:10]:
        value, low, high = row['iqm']
        print(f'{row["setting"]}: IQM {value:.4g} [{low:.4g}, {high:.4g}]')
    for warning in numbers['warnings']:
        print(f'warning: {warning}')
    print(f'written: {out / report_files.PAGE}')


if __name__ == '__main__':
    config_flags.define_inputs('workdirs', None, 'Folders of the sweeps.', positional=True)
    config_flags.define_inputs('curves', None, 'CSV files of learning curves.', folder=False)
    flags.DEFINE_string('metric', 'avg_return', 'Which metric of --curves is the score.')
    config_flags.define_output('out', 'report', 'The folder that is written.', folder=True)
    flags.DEFINE_string('baseline', None, 'The setting that others are compared with.')
    choices = ['last', 'best']
    flags.DEFINE_enum('checkpoint', 'last', choices, "Which of a seed's evaluations is its score.")
    flags.DEFINE_integer('at', None, 'Use evaluations up to this many env steps.', lower_bound=1)
    help_text = 'JSON: task -> [score that counts 0, score that counts 1].'
    config_flags.define_input('reference', None, help_text, folder=False)
    config_flags.run_main(main)
