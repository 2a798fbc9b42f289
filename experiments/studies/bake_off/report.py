"""The table and the plot of `experiments.studies.bake_off`."""

import math
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

HEADER = '| method | acts with | evaluations | score [95%] | p50 ms, one robot | training s |'


def line(row: dict) -> str:
    """One row in words."""
    return f'{row["method"]:12s} {_acting(row):12s} {_score(row)}'


def pareto(rows: list[dict]) -> list[dict]:
    """The rows that no other one beats in both score and latency, the fastest first."""
    best, found = float('-inf'), []
    known = [row for row in rows if _is_known(row)]
    for row in sorted(known, key=lambda r: (r['p50_ms'], -r['score'])):
        if row['score'] > best:
            best = row['score']
            found.append(row)
    return found


def write(root: Path, rows: list[dict], config) -> None:
    """Writes bake_off.md and bake_off.png."""
    front = pareto(rows)
    lines = [
        f'{config.eval.score} of {config.env.name}, {rows[0]["num_episodes"]} episodes a row; '
        '**bold**: no other row is both faster and better.',
        '',
        HEADER,
        '|---|---|---|---|---|---|',
    ]
    for row in rows:
        score = f'**{_score(row)}**' if row in front else _score(row)
        lines.append(
            f'| {row["method"]} | {_acting(row)} | {row["evaluations"]} | {score} '
            f'| {row["p50_ms"]:.2f} | {row["train_s"]:.0f} |'
        )
    (root / 'bake_off.md').write_text('\n'.join(lines) + '\n')
    _plot(root / 'bake_off.png', rows, front, config)


def _is_known(row: dict) -> bool:
    """Whether there is a score: not where all episodes broke, which the file has as null."""
    return row['score'] is not None and math.isfinite(row['score'])


def _score(row: dict) -> str:
    broken = row.get('broken_episodes', 0)  # rows of older versions do not count them
    if not _is_known(row):
        return f'all {broken} episodes broke'
    low, high = (math.nan if row[key] is None else row[key] for key in ('low', 'high'))
    score = f'{row["score"]:.3f} [{low:.3f}, {high:.3f}]'
    return f'{score}, {broken} broke' if broken else score


def _acting(row: dict) -> str:
    return ' '.join(str(row[key]) for key in ('sampler', 'num_sample_steps') if key in row) or '-'


def _plot(path: Path, rows: list[dict], front: list[dict], config) -> None:
    figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
    colours = plt.get_cmap('tab20').colors  # type: ignore[attr-defined]
    rows = [row for row in rows if _is_known(row)]
    for i, method in enumerate(dict.fromkeys(row['method'] for row in rows)):
        mine = [row for row in rows if row['method'] == method]
        score = [row['score'] for row in mine]
        errors = [
            [0.0 if row['low'] is None else row['score'] - row['low'] for row in mine],
            [0.0 if row['high'] is None else row['high'] - row['score'] for row in mine],
        ]
        axes.errorbar(
            [row['p50_ms'] for row in mine],
            score,
            yerr=errors,
            fmt='o',
            capsize=2,
            color=colours[i % len(colours)],
            label=method,
        )
    axes.plot([row['p50_ms'] for row in front], [row['score'] for row in front], 'k--', lw=1)
    for row in front:
        axes.annotate(
            f'{row["method"]} {_acting(row)}',
            (row['p50_ms'], row['score']),
            xytext=(4, 6),
            textcoords='offset points',
            fontsize=7,
        )
    axes.set_xscale('log')
    axes.set_xlabel('milliseconds for a plan, one robot (p50)')
    axes.set_ylabel(f'{config.eval.score}, {config.env.name}')
    axes.legend(fontsize=8, ncols=2, loc='lower right')
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
