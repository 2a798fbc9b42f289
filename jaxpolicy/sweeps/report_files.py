"""Reads the results of sweeps and writes the report of them: a page, tables and JSON."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxpolicy.io import report, workdir
from jaxpolicy.sweeps import (
    factors,
    report_page,
    report_statistics,
    report_warnings,
    result,
    scores,
)

PAGE, NUMBERS, SETTINGS, SCORES = 'report.html', 'report.json', 'settings.csv', 'scores.csv'
_ESTIMATES = ('iqm', 'mean', 'median', 'optimality_gap', 'improvement', 'difference')


def read(folders: Iterable[Path], out: Path) -> list[result.Result]:
    """The results of several sweeps; their workdirs are relative to the folder `out`.

    A run that is in two of the folders is there once; where it finished in one, that counts.

    Raises:
      ValueError: a folder has no results, or a file that is no result.
    """
    found: dict[str, result.Result] = {}
    for folder in folders:
        there = result.read(folder)
        if not there:
            raise ValueError(
                f'{folder}: expected the folder of a sweep, found no {result.FOLDER}/*.json in it'
            )
        for one in there:
            place = os.path.relpath(folder / one.workdir, out)
            if one.identity not in found or one.status == 'finished':
                found[one.identity] = dataclasses.replace(one, workdir=place)
    return sorted(found.values(), key=lambda one: (one.name, one.task, one.seeds))


def write(
    out: Path,
    results: Sequence[result.Result],
    baseline: str | None = None,
    best: bool = False,
    at: int | None = None,
    reference: scores.Reference | None = None,
) -> dict[str, Any]:
    """Writes report.html, report.json, settings.csv and scores.csv into a folder.

    Names of settings have short keys where those are unique: 'tau=0.1' for 'agent.tau=0.1'.

    Args:
      baseline, best, at, reference: see `report_statistics.baseline_of` and `scores.collect`.

    Returns:
      What report.json holds.

    Raises:
      ValueError: see there.
    """
    shorten = scores.shortener(results)
    results = [dataclasses.replace(one, name=shorten(one.name)) for one in results]
    collection = scores.collect(results, best, at, reference)
    base = report_statistics.baseline_of(collection, baseline and shorten(baseline))
    rows = report_statistics.rows(collection, results, base)
    warnings = report_warnings.find(collection, results, rows, base, best, at)
    analysis = factors.analyse(collection.samples)
    numbers = {
        'score': collection.scale,
        'normalisation': collection.normalisation,
        'baseline': base,
        'tasks': collection.tasks(),
        'warnings': warnings,
        'settings': rows,
        'factors': None if analysis is None else _as_json(analysis),
        'runs': [dataclasses.asdict(r) | {'curve': len(r.curve)} for r in results],
    }
    out.mkdir(parents=True, exist_ok=True)  # links are looked up from there
    page = report_page.sections(collection, results, rows, base, warnings, out)
    (out / SETTINGS).write_text(_settings_csv(rows), encoding='utf-8')
    (out / SCORES).write_text(_scores_csv(collection), encoding='utf-8')
    workdir.write_json(out / NUMBERS, numbers)
    report.write(out / PAGE, 'Report of a sweep', page)
    return numbers


def _as_json(analysis: factors.Analysis) -> dict[str, Any]:
    found = [f._asdict() | {'levels': [x._asdict() for x in f.levels]} for f in analysis.factors]
    return analysis._asdict() | {'factors': found}


def _settings_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each setting; an estimate has three columns."""
    lines = []
    for row in rows:
        line = {}
        for key, value in row.items():
            if key in _ESTIMATES:
                names = (key, f'{key}_low', f'{key}_high')
                line |= dict(zip(names, value or ('', '', ''), strict=True))
            else:
                line[key] = report_page.changes_text(value) if key == 'changes' else value
        lines.append(line)
    return _csv(lines)


def _scores_csv(collection: scores.Collection) -> str:
    """A line for each seed, normalised as the report is."""
    return _csv(
        [
            {'setting': s.setting, 'task': s.task, 'seed': s.seed, 'score': s.score}
            for s in collection.samples
        ]
    )


def _csv(lines: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()
