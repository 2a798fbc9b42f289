"""The report of a sweep as a page: what stands in which section."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib import parse

from jaxpolicy.io import charts, report
from jaxpolicy.sweeps import report_charts, report_statistics
from jaxpolicy.sweeps.result import Result
from jaxpolicy.sweeps.scores import Collection, setting_of

_MANY = 40  # settings in the first table and its charts, besides the baseline
_FILES = {'config.json': 'config', 'metrics.csv': 'curves', 'video.mp4': 'video'}
_FOLDED = 50  # rows of a table that a reader opens with a click
_HELP = (
    'IQM is the interquartile mean: of all runs of all tasks, the mean of the middle half.'
    ' The mean and the median are those over tasks of each task’s mean over seeds (of one '
    'task, the median over seeds). The optimality gap is by how much runs miss the best '
    'score on average. Brackets hold 95% intervals: of stratified bootstraps, which draw '
    'seeds again within each task, and of Student’s t for the differences by seed.\n\n'
    'P(better) is the probability that a run of the setting scores above a run of the '
    'baseline on the same task, ties counting half. A difference by seed is that between '
    'runs with the same seed, with the number of pairs in parentheses; seeds that share '
    'nothing but their number make it no more exact than the two means. Formulas: Agarwal '
    'et al., Deep reinforcement learning at the edge of the statistical precipice (2021).'
)


def sections(
    collection: Collection,
    results: Sequence[Result],
    rows: Sequence[dict[str, Any]],
    baseline: str | None,
    warnings: Sequence[str],
    out: Path,
) -> list[report.Section]:
    """The page, from top to bottom; workdirs of the results are relative to the folder `out`."""
    style = report_charts.styles(rows, baseline)
    found = [_summary(collection, results, rows, baseline), _warnings(warnings)]
    if rows:
        found += [
            _settings(collection, rows, baseline, style),
            report.Section(  # two charts, which stand side by side on a wide page
                'Sample efficiency and performance profiles',
                [
                    report_charts.curves(collection, style),
                    report_charts.profiles(collection, style),
                ],
            ),
        ]
        found += report_charts.importance(collection)
        if len(collection.tasks()) > 1:
            found.append(_tasks(collection, style))
    if any(result.train_s for result in results):
        found.append(_costs(rows, results))
    found += [_runs(results, out), report.Section('How to read it', [report.Text(_HELP)])]
    return found


def changes_text(changes: Mapping[str, Any]) -> str:
    """agent.learning_rate=0.001, agent.hidden=[64, 64]."""
    texts = [f'{k}={v if isinstance(v, str) else json.dumps(v)}' for k, v in changes.items()]
    return ', '.join(texts)


def _summary(
    collection: Collection,
    results: Sequence[Result],
    rows: Sequence[Mapping[str, Any]],
    baseline: str | None,
) -> report.Section:
    tasks, seeds = collection.tasks(), len(collection.samples)
    names = f' ({", ".join(tasks)})' if 0 < len(tasks) <= 8 and tasks != [''] else ''
    text = (
        f'{len(results):,} runs of {len({setting_of(r) for r in results}):,} settings on '
        f'{len(tasks)} task{"s" if len(tasks) != 1 else ""}{names}; {seeds:,} scores. The score is '
        f'{collection.score}; higher is better.'
    )
    if rows:
        best = rows[0]
        text += f' The highest IQM is {report_charts.bounds(best["iqm"])}, of {best["setting"]}.'
        text += f' Settings are compared with the baseline, {baseline}.'
    return report.Section('Summary', [report.Text(f'{text}\n\n{collection.normalisation}')])


def _warnings(warnings: Sequence[str]) -> report.Section:
    if not warnings:
        return report.Section('Warnings', [report.Text('None.')])
    return report.Section('Warnings', [report.Points(warnings)])


def _settings(
    collection: Collection,
    rows: Sequence[Mapping[str, Any]],
    baseline: str | None,
    style: Mapping[str, int],
) -> report.Section:
    more = f' The best {_MANY} of {len(rows)}; settings.csv has all.' if len(rows) > _MANY else ''
    columns = ['setting', 'IQM', 'mean', 'median', 'optimality gap', 'P(better)']
    columns += ['difference by seed', 'fewest seeds', 'scores']
    lines = []
    part = [row for i, row in enumerate(rows) if i < _MANY or row['setting'] == baseline]
    for row in part:
        difference = report_charts.bounds(row['difference'])
        pairs = f'\N{NO-BREAK SPACE}({row["num_pairs"]})' if difference else ''
        name = f'{row["setting"]} (baseline)' if row['setting'] == baseline else row['setting']
        lines.append(
            [
                name,
                *(
                    report_charts.bounds(row[key])
                    for key in ('iqm', 'mean', 'median', 'optimality_gap')
                ),
                report_charts.bounds(row['improvement']),
                f'{difference}{pairs}' if difference else None,
                row['fewest_seeds'],
                row['num_scores'],
            ]
        )
    empty = {i for i in (4, 5, 6) if all(line[i] is None for line in lines)}
    keep = [i for i in range(len(columns)) if i not in empty]
    caption = f'{collection.scale}; values with 95% intervals. The best IQM comes first.{more}'
    table = report.Table(
        [columns[i] for i in keep], [[line[i] for i in keep] for line in lines], caption
    )
    estimates = [charts.Interval(r['setting'], style[r['setting']], *r['iqm']) for r in part]
    parts: list[report.Part] = [
        table,
        report.Chart(
            charts.intervals(estimates, f'IQM of {collection.scale}'),
            f'Interquartile means with 95% intervals.{more}',
        ),
    ]
    wins = [r for r in part if r['improvement'] is not None]
    if wins:
        drawn = [
            charts.Interval(r['setting'], style[r['setting']], *r['improvement']) for r in wins
        ]
        parts.append(
            report.Chart(
                charts.intervals(drawn, 'P(better than the baseline)', line_at=0.5),
                'The probability that a run scores above one of the baseline. At 0.5, it '
                f'is as often below.{more}',
            )
        )
    return report.Section('Settings', parts)


def _tasks(collection: Collection, style: Mapping[str, int]) -> report.Section:
    table, names = collection.table(), report_charts.shown(style)
    rows = [
        [task or '(none)', *(_mean_of(table[name].get(task)) for name in names)]
        for task in collection.tasks()
    ]
    caption = f'Means over seeds; {collection.scale}.{report_charts.left_out(style)}'
    part = report.Table(['task', *names], rows, caption)
    return report.Section('Tasks', [part], folded=len(rows) > _FOLDED)


def _mean_of(scores: Mapping[int, float] | None) -> float | None:
    return sum(scores.values()) / len(scores) if scores else None


def _costs(rows: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> report.Section:
    lines = []
    for row in rows:
        memory = row['memory_bytes']
        lines.append(
            [
                row['setting'],
                *(row[key] for key in ('num_runs', 'train_s', 'compile_s', 'eval_s')),
                None if memory is None else memory / 2**30,
                row['run_device_hours'],
                row['device_hours'],
            ]
        )
    columns = ['setting', 'runs', 'training (s)', 'compilation (s)', 'evaluation (s)']
    columns += ['memory (GiB)', 'device-hours a run', 'device-hours']
    total = sum(report_statistics.device_hours(result) for result in results)
    caption = (
        'Seconds are means over finished runs, memory is the most of any. A run may train '
        'several seeds. '
        f'Device-hours count runs that failed or were stopped too: {total:.3g} in all.'
    )
    part = report.Table(columns, lines, caption)
    return report.Section('Time and memory', [part], folded=len(lines) > _FOLDED)


def _file(result: Result, out: Path, file: str) -> report.Link | None:
    """A link to a file of a run, where there is one."""
    if not result.workdir or not (out / result.workdir / file).is_file():
        return None
    return report.Link(_FILES[file], parse.quote(f'{result.workdir}/{file}', safe='/=,'))


def _runs(results: Sequence[Result], out: Path) -> report.Section:
    lines = []
    for result in results:
        name = result.workdir.rstrip('/').split('/')[-1]
        lines.append(
            [
                report.Link(name, parse.quote(result.workdir, safe='/=,')) if name else None,
                result.status,
                setting_of(result),
                result.task,
                ', '.join(map(str, result.seeds)),
                ', '.join(report.format_cell(score) for score in result.scores),
                changes_text(result.changes) or '(none)',
                report_statistics.device_hours(result),
                result.device,
                (result.stopped or result.error.strip().split('\n')[-1])[:160],
                *(_file(result, out, file) for file in _FILES),
            ]
        )
    columns = ['workdir', 'status', 'setting', 'task', 'seeds', 'last scores', 'changes']
    columns += ['device-hours', 'device', 'why it ended', *_FILES.values()]
    keep = [
        i for i in range(len(columns)) if any(line[i] not in ('', None, '(none)') for line in lines)
    ]
    caption = 'Names lead to the folders and files of a run, as long as they stay where they are.'
    table = report.Table(
        [columns[i] for i in keep], [[line[i] for i in keep] for line in lines], caption
    )
    return report.Section('Runs', [table], folded=len(lines) > _FOLDED)
