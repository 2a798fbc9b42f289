"""Learning curves of several runs: python -m experiments.compare --workdirs=A,B --out=curves.png

The picture has a panel for each environment and a line for each run; runs made with --num_seeds
also show each seed and the 95% interval. The line is the score that the run's config names, or
--metric, against environment steps (updates, where there are none) or --against. The command
also prints the last value of each run.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import metrics, paths
from jaxpolicy.runs import saved

FLAGS = flags.FLAGS


def curve(
    directory: Path, metric: str | None, against: str | None = None
) -> tuple[str, list[dict[str, Any]]]:
    """A label for what is drawn of a run, and its points: x, mean, its bounds, each seed's value.

    Raises:
      ValueError: no row of the run has the metric, or what it is drawn against.
    """
    name = metric or f'eval/{saved.load_config(directory).eval.score}'
    rows = [row for row in metrics.read(directory) if row.get(name) is not None]
    if not rows:
        raise ValueError(f'--metric: {directory} has no {name!r}; {found(directory)}')
    x = against or ('env_steps' if rows[-1]['env_steps'] else 'updates')
    if not all(math.isfinite(row.get(x, math.nan)) for row in rows):
        raise ValueError(
            f'--against: {directory} has no {x!r} where it has {name!r}; {found(directory)}'
        )
    points = [
        {
            'x': row[x],
            'mean': row[name],
            'low': row.get(f'{name}_low', row[name]),
            'high': row.get(f'{name}_high', row[name]),
            'seeds': [v for k, v in row.items() if k.startswith('seed') and k.endswith(f'/{name}')],
        }
        for row in rows
    ]
    return f'{name} against {x}', points


def found(directory: Path) -> str:
    """The names of a run's metrics, in words."""
    names = {name for row in metrics.read(directory) for name in row}
    return f'it has {", ".join(sorted(names))}' if names else 'it has no metrics yet'


def draw(
    directories: list[Path], metric: str | None, out: Path, against: str | None = None
) -> None:
    """Writes the picture and prints where each run ended."""
    panels: dict[str, list[Path]] = {}
    for directory in directories:
        panels.setdefault(saved.load_config(directory).env.name, []).append(directory)
    columns = min(len(panels), 3)
    shape = (-(-len(panels) // columns), columns)
    figure, grid = plt.subplots(
        *shape, figsize=(4.2 * columns, 3.1 * shape[0]), squeeze=False, layout='constrained'
    )
    for axes in grid.flat[len(panels) :]:
        axes.axis('off')
    for axes, (env, members) in zip(grid.flat, panels.items(), strict=False):
        for directory in members:
            label, points = curve(directory, metric, against)
            x, mean, low, high = ([p[k] for p in points] for k in ('x', 'mean', 'low', 'high'))
            (line,) = axes.plot(x, mean, marker='.', label=directory.name)
            seeds = [p['seeds'] or [p['mean']] for p in points]
            axes.plot(x, seeds, color=line.get_color(), lw=0.5, alpha=0.7)
            limits = axes.get_ylim()
            axes.fill_between(x, low, high, alpha=0.2, color=line.get_color())
            axes.set_ylim(limits)  # those of the seeds, as an interval may pass what is possible
            axes.set_xlabel(label.split()[-1].split('/')[-1].replace('_', ' '))
            axes.set_ylabel(label.split()[0].removeprefix('eval/').replace('_', ' '))
            print(
                f'{directory}: {mean[-1]:.4g} [{low[-1]:.4g}, {high[-1]:.4g}] at {round(x[-1]):,}'
            )
        axes.set_title(env, fontsize=10)
        axes.grid(alpha=0.3)
        if len(members) > 1:
            axes.legend(fontsize=8)
    paths.write(out, lambda place: figure.savefig(place, dpi=110))
    plt.close(figure)


def main(_):
    draw([Path(d) for d in FLAGS.workdirs], FLAGS.metric, Path(FLAGS.out), FLAGS.against)
    print(f'written: {FLAGS.out}')


if __name__ == '__main__':
    config_flags.define_inputs(
        'workdirs', None, 'Directories of the runs.', folder=True, required=True
    )
    flags.DEFINE_string('metric', None, "A column of metrics.csv; the config's score without it.")
    flags.DEFINE_string('against', None, "The horizontal axis, for example 'train/queries'.")
    pictures = paths.PICTURES
    config_flags.define_output('out', 'curves.png', 'The picture.', suffixes=pictures)
    config_flags.run_main(main)
