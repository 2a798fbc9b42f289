"""The demo's report: tables, pictures and what they show, computed from the numbers."""

import io
from pathlib import Path

import numpy as np
from matplotlib import figure, patches

from jaxpolicy.data import episodes as episodes_lib
from jaxpolicy.envs.physics import arm
from jaxpolicy.envs.tasks import detour
from jaxpolicy.io import report, workdir

COLORS = ('#d62728', '#1f77b4', '#2ca02c', '#9467bd')
NUM_SHOWN = 64  # paths in a panel


def demo_paths(demos: Path) -> list[np.ndarray]:
    """The end effector's path [T, 2] m of each demonstration, from the observations."""
    episodes = episodes_lib.load(demos)
    start = 3 * detour.Config().num_dof  # of the end effector in an observation
    ends = episodes.episode_ends
    return np.split(episodes.obs[:, start : start + 2], ends[:-1])


def side_shares(paths: list[np.ndarray]) -> tuple[float, float, float]:
    """Shares of paths that pass the pillar's axis on the left, on the right, and not at all."""
    pillar_x = detour.Config().pillar[0]
    sides = []
    for path in paths:
        beyond = np.flatnonzero(path[:, 0] >= pillar_x)
        sides.append(np.sign(path[beyond[0], 1]) if len(beyond) else 0.0)
    found = np.asarray(sides)
    return float((found > 0).mean()), float((found < 0).mean()), float((found == 0).mean())


def png(fig: figure.Figure) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format='png', dpi=130, bbox_inches='tight')
    return buffer.getvalue()


def plot_paths(panels: dict[str, list[np.ndarray]]) -> bytes:
    """End-effector paths from above, one panel each, with the pillar and the goals' centre."""
    config = detour.Config()
    fig = figure.Figure(figsize=(3 * len(panels), 3.6))
    for axis, (name, paths) in zip(fig.subplots(1, len(panels)), panels.items(), strict=True):
        reach = config.pillar_radius + arm.HAND_RADIUS
        axis.add_patch(patches.Circle(config.pillar, reach, color='#d9998f', alpha=0.4))
        axis.add_patch(patches.Circle(config.pillar, config.pillar_radius, color='#b03a2e'))
        axis.plot(*config.goal[:2], '+', color='#1e8449', markersize=12)
        for path in paths[:NUM_SHOWN]:
            axis.plot(path[:, 0], path[:, 1], color='#34495e', alpha=0.35, linewidth=0.8)
            axis.plot(*path[-1:].T, '.', color='#34495e', alpha=0.6, markersize=3)
        axis.set(title=name, xlim=(0.2, 0.75), ylim=(-0.3, 0.3), aspect='equal', xlabel='x (m)')
    return png(fig)


def plot_curves(results) -> bytes:
    """Success of the evaluations while training, against seconds of training."""
    fig = figure.Figure(figsize=(7, 3.6))
    axis = fig.subplots()
    for result, color in zip(results, COLORS, strict=True):
        rows = [row for row in result.rows if 'eval/success_max' in row]
        x, y = [row['time/train_s'] for row in rows], [row['eval/success_max'] for row in rows]
        axis.plot(x, y, 'o-', color=color, label=result.name, markersize=4)
    axis.set(xlabel='training (s)', ylabel='success', ylim=(-0.03, 1.03))
    axis.grid(alpha=0.3)
    axis.legend()
    return png(fig)


def interval(row: dict[str, float], scale: float = 100.0) -> str:
    """A mean and its interval, times `scale`: in percent without one."""
    mean, low, high = (f'{scale * row[name]:.1f}' for name in ('mean', 'low', 'high'))
    return f'{mean} [{low}, {high}]'


def findings(results, expert_paths: list[np.ndarray]) -> str:
    """What the numbers say, whichever way they fall."""
    left, right, _ = side_shares(expert_paths)
    lines = [
        f'The demonstrations pass the pillar on the left in {left:.0%} and on the right in '
        f'{right:.0%} of {len(expert_paths)} episodes.'
    ]
    for result in results:
        contact = result.summary['contact_max']['mean']
        success = result.summary['success_max']['mean']
        left, right, short = side_shares(result.paths)
        if contact > 0.5 and left + right < 0.5:
            verdict = 'it averages the two sides and runs into the pillar'
        elif min(left, right) > 0.1:
            verdict = 'it uses both sides'
        elif left + right > 0.5:
            verdict = f'it has settled on the {"left" if left > right else "right"} side'
        else:
            verdict = 'it neither passes the pillar nor runs into it'
        lines.append(
            f'{result.name}: {success:.1%} success, {contact:.1%} pillar contacts; {verdict} '
            f'({left:.0%} left, {right:.0%} right, {short:.0%} do not pass, of '
            f'{len(result.paths)} paths).'
        )
    ranked = sorted(results, key=lambda r: r.summary['success_max']['mean'], reverse=True)
    smooth = min(results, key=lambda r: r.summary['jerk_mean']['mean'])
    fast = min(results, key=lambda r: r.latency_ms)
    lines.append(
        'From most to least success: ' + ', '.join(result.name for result in ranked) + '. '
        f'The smoothest paths (least jerk) are those of {smooth.name}; the fastest to act is '
        f'{fast.name} ({fast.latency_ms:.2f} ms per action).'
    )
    return '\n\n'.join(lines)


def write(path: Path, results, demos: Path, elapsed_s: float, versions: dict) -> None:
    """Writes report.html, and the table's numbers as report.json."""
    expert_paths = demo_paths(demos)
    columns = (
        'method', 'success % [95% CI]', 'pillar contacts % [95% CI]', 'jerk m/s³ [95% CI]',
        'steps to the end', 'ms per action', 'learnt from', 'training s',
    )  # fmt: skip
    rows = [
        (
            result.name,
            interval(result.summary['success_max']),
            interval(result.summary['contact_max']),
            interval(result.summary['jerk_mean'], 1.0),
            result.summary['length']['mean'],
            result.latency_ms,
            result.experience,
            result.rows[-1]['time/train_s'],
        )
        for result in results
    ]
    count = results[0].summary['length']['n']
    caption = (
        f'{count:,} episodes each, on seeds that training did not use. Wilson and t intervals.'
    )
    panels = {'Demonstrations': expert_paths} | {result.name: result.paths for result in results}
    about = (
        'A 7-DoF arm must reach a goal behind a pillar without touching it. Left and right are '
        'equally good, and the demonstrations take either. '
        f'This call of the command took {elapsed_s:.0f} s, on '
        f'{versions["platform"]}, jax {versions["jax"]}.'
    )
    paths_caption = 'The end effector from above; dark red: pillar, light red: where a hand touches'
    sections = [
        report.Section('One task, three paradigms', [report.Text(about)]),
        report.Section('Results', [report.Table(columns, rows, caption)]),
        report.Section('What the numbers show', [report.Text(findings(results, expert_paths))]),
        report.Section('Paths', [report.Figure(plot_paths(panels), paths_caption)]),
        report.Section('Learning', [report.Figure(plot_curves(results), 'Success while training')]),
        report.Section('Videos', [report.Videos([(r.name, r.video) for r in results if r.video])]),
    ]
    report.write(path, 'jaxpolicy: three paradigms, one robot task', sections)
    numbers = {
        r.name: {'summary': r.summary, 'latency_ms': r.latency_ms, 'train_s': row[-1]}
        for r, row in zip(results, rows, strict=True)
    }
    workdir.write_json(path.with_suffix('.json'), numbers)
