"""The sections of a report that are drawings: curves, profiles, what matters; and their styles."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxpolicy.io import charts, report
from jaxpolicy.sweeps import factors, report_statistics
from jaxpolicy.sweeps.scores import Collection


def styles(rows: Sequence[Mapping[str, Any]], baseline: str | None) -> dict[str, int]:
    """The style of each setting in every chart: the baseline's first, then the best first.

    Where there are more than can be told apart, the others share the last one, a grey.
    """
    names = [row['setting'] for row in rows]
    names = [name for name in names if name == baseline] + [n for n in names if n != baseline]
    return {name: min(index, charts.MAX_SERIES - 1) for index, name in enumerate(names)}


def shown(style: Mapping[str, int]) -> list[str]:
    """The settings that have lines: all that have a style of their own."""
    if len(style) <= charts.MAX_SERIES:
        return list(style)
    return [name for name, index in style.items() if index < charts.MAX_SERIES - 1]


def bounds(estimate: Sequence[float] | None) -> str | None:
    """0.85 [0.8, 0.9], which may be broken before the bracket only; None stays None."""
    if estimate is None:
        return None
    value, low, high = (report.format_cell(float(x)) for x in estimate)
    return f'{value} [{low},\N{NO-BREAK SPACE}{high}]'


def left_out(style: Mapping[str, int]) -> str:
    rest = len(style) - len(shown(style))
    return f' The baseline and the best settings; {rest:,} others are left out.' if rest else ''


def curves(collection: Collection, style: Mapping[str, int]) -> report.Part:
    drawn = []
    for name in shown(style):
        points = report_statistics.curve([s for s in collection.samples if s.setting == name])
        if len(points) > 1:
            drawn.append(charts.Series(name, style[name], *zip(*points, strict=True)))
    if not drawn:
        return report.Text('No setting has two evaluations, so there are no curves.')
    caption = (
        'Interquartile means of all evaluations, with 95% intervals, to where the first run of'
        ' a setting ends.'
    )
    svg = charts.lines(drawn, collection.axis, f'IQM of {collection.scale}')
    return report.Chart(svg, caption + left_out(style))


def profiles(collection: Collection, style: Mapping[str, int]) -> report.Part:
    if len({sample.score for sample in collection.samples}) == 1:
        return report.Text('All scores are equal, so there are no profiles.')
    drawn = [
        charts.Series(name, style[name], *report_statistics.profile(collection, name))
        for name in shown(style)
    ]
    caption = (
        'The fraction of runs whose score is above a threshold, with 95% intervals. A curve '
        'that is above another everywhere is better.'
    )
    svg = charts.lines(drawn, f'threshold of {collection.scale}', 'fraction of runs above')
    return report.Chart(svg, caption + left_out(style))


def importance(collection: Collection) -> list[report.Section]:
    analysis = factors.analyse(collection.samples)
    if analysis is None or [factor.key for factor in analysis.factors] == ['recipe']:
        return []
    shares = [(factor.key, factor.share) for factor in analysis.factors]
    if analysis.rest is not None and len(shares) > 1:
        shares.append(('interactions', analysis.rest))
    shares.append(('seeds', analysis.seeds))
    bars = [charts.Interval(name, 0, 100 * share) for name, share in shares]
    caption = (
        'The part of the variance of the scores that each factor’s main effect explains, and '
        'that between seeds of one setting. With few seeds, chance explains a part too.'
    )
    if analysis.rest is None:
        caption += (
            ' The settings are no complete grid, so that factors may share what they explain.'
        )
    parts: list[report.Part] = [
        report.Chart(charts.intervals(bars, 'share of the variance (%)', line_at=0.0), caption),
        report.Table(
            ['factor', 'value', 'mean', 'scores'],
            [
                [factor.key, level.name, bounds(level[2:]), level.num_scores]
                for factor in analysis.factors
                for level in factor.levels
            ],
            f'Main effects: {collection.scale} with each value of a factor, averaged over the '
            'other factors, with 95% intervals over seeds.',
        ),
    ]
    if len(analysis.factors) > 1:
        parts.append(_interaction(collection, analysis))
    return [report.Section('Which hyper-parameter matters', parts)]


def _interaction(collection: Collection, analysis: factors.Analysis) -> report.Chart:
    """The two factors that matter most, that with more values on the axis."""
    pair = sorted(analysis.factors[:2], key=lambda factor: -len(factor.levels))
    first, second = pair[0].key, pair[1].key
    places = {level.name: index for index, level in enumerate(pair[0].levels)}
    drawn = []
    for index, (name, points) in enumerate(
        factors.interaction(collection.samples, first, second).items()
    ):
        columns = list(zip(*points, strict=True))
        x = [places[level] for level in columns[0]]
        series = charts.Series(f'{second}={name}', index, x, *columns[1:])
        drawn.append(series)
    ticks = [(float(place), name) for name, place in places.items()]
    svg = charts.lines(drawn[: charts.MAX_SERIES], first, f'mean of {collection.scale}', ticks)
    caption = (
        'Interaction of the two factors that matter most: where lines are not parallel, the '
        'effect of one depends on the other. Here a line is a value of a factor, not a '
        'setting.'
    )
    return report.Chart(svg, caption)
