import csv
import dataclasses
import json

import numpy as np
import pytest

from jaxpolicy.sweeps import (
    curves_csv,
    report_charts,
    report_files,
    report_statistics,
    result,
    scores,
)
from tests.sweeps import sweep_results

ALGORITHMS = ('sac', 'tdmpc2', 'simba_utd2', 'simbaV2_utd2')


def rows_of(*results, baseline=None):
    collection = scores.collect(results)
    return report_statistics.rows(collection, results, baseline)


def test_differences_are_those_of_the_same_seed():
    ours, theirs = {'x': {0: 3.0, 1: 5.0, 2: 4.0}}, {'x': {1: 1.0, 2: 2.0, 0: 0.0, 9: 7.0}}
    (mean, low, high), num_pairs = report_statistics.difference_by_seed(ours, theirs)
    assert (mean, num_pairs) == (3.0, 3)
    half = 4.302653 / 3**0.5  # Student's t with two degrees of freedom; the deviation is 1
    np.testing.assert_allclose([low, high], [3.0 - half, 3.0 + half], rtol=1e-6)


def test_differences_over_tasks_are_means_of_a_seed():
    ours, theirs = {'x': {0: 1.0, 1: 1.0}, 'y': {0: 3.0, 1: 5.0}}, {'x': {0: 0.0, 1: 0.0}}
    theirs['y'] = {0: 0.0, 1: 0.0}
    (mean, _, _), num_pairs = report_statistics.difference_by_seed(ours, theirs)
    assert (mean, num_pairs) == ((2.0 + 3.0) / 2, 2)
    assert report_statistics.difference_by_seed(ours, {'x': {7: 0.0}}) == (None, 0)
    assert report_statistics.difference_by_seed(ours, {'z': {0: 0.0}}) == (None, 0)


def test_rows_have_the_best_first_and_the_costs_of_a_run():
    failed = sweep_results.make('b', (0.0,), seeds=[9], status='failed')
    a, b = sweep_results.make('a', (1.0, 2.0)), sweep_results.make('b', (4.0, 3.0))
    better, base = rows_of(a, b, failed, baseline='a')
    assert (better['setting'], better['improvement'][0], better['difference'][0]) == ('b', 1.0, 2.0)
    assert base['improvement'] is None and base['iqm'][0] == 1.5
    assert better['num_runs'] == 1 and better['train_s'] == 60.0
    assert better['run_device_hours'] == pytest.approx(2 * 90 / 3600)  # two devices
    assert better['device_hours'] == pytest.approx(2 * 2 * 90 / 3600)  # the failed run, too


def test_the_baseline_is_the_setting_that_changes_nothing():
    changed = sweep_results.make('a', changes={'agent.tau': 0.1})
    collection = scores.collect([changed, sweep_results.make('plain')])
    assert report_statistics.baseline_of(collection, None) == 'plain'
    assert report_statistics.baseline_of(collection, 'a') == 'a'
    with pytest.raises(ValueError, match="found 'plian'; did you mean 'plain'"):
        report_statistics.baseline_of(collection, 'plian')


def test_a_curve_goes_to_where_the_first_run_ends():
    collection = scores.collect([sweep_results.make('a', (1.0, 3.0))])
    early, late = collection.samples
    late = late._replace(curve=[(400.0, 0.0), (600.0, 2.0), (2000.0, 9.0)])
    points = report_statistics.curve([early, late])
    assert [point[:2] for point in points] == [(500.0, 0.25), (600.0, 1.25), (1000.0, 1.5)]


def test_thinning_keeps_the_ends():
    assert report_statistics.thinned(range(101), 5) == [0, 25, 50, 75, 100]
    assert report_statistics.thinned([1, 2], 5) == [1, 2]


def test_styles_are_of_the_baseline_first_and_the_rest_share_grey():
    rows = [{'setting': f's{i}'} for i in range(10)]
    style = report_charts.styles(rows, 's4')
    assert style['s4'] == 0 and style['s0'] == 1 and style['s8'] == style['s9'] == 7
    assert report_charts.shown(style) == ['s4', 's0', 's1', 's2', 's3', 's5', 's6']


@pytest.fixture
def sweep(tmp_path):
    for x in (1, 2):
        for y in ('no', 'yes'):
            changes = {'agent.tau': x, 'loop.reset': y}
            name = f'agent.tau={x} loop.reset={y}'
            one = sweep_results.make(name, np.linspace(0.1 * x, 0.3 * x, 5), changes=changes)
            result.write(tmp_path, one)
    failed = sweep_results.make('agent.tau=2 loop.reset=no', (9.0,), seeds=[7], status='failed')
    result.write(tmp_path, failed)
    return tmp_path


def test_a_report_has_a_page_tables_and_numbers(sweep):
    out, run = sweep / 'report', sweep / 'runs' / 'agent.tau=1 loop.reset=no'
    run.mkdir(parents=True)
    (run / 'video.mp4').write_bytes(b'film')
    numbers = report_files.write(out, report_files.read([sweep], out))
    page = (out / report_files.PAGE).read_text()
    assert 'http' not in page.replace('http://www.w3.org', '') and '<script' not in page
    for title in ('Warnings', 'Sample efficiency and performance profiles', 'Time and memory'):
        assert f'<h2>{title}</h2>' in page
    assert 'Interaction of the two factors' in page and '1 run failed' in page
    assert 'href="../runs/agent.tau=1%20loop.reset=no"' in page
    assert page.count('no/video.mp4"') == 1 and 'metrics.csv' not in page
    assert json.loads((out / report_files.NUMBERS).read_text())['baseline'] == numbers['baseline']
    lines = list(csv.DictReader((out / report_files.SETTINGS).open()))
    assert lines[0]['setting'].startswith('tau=2')
    best = numbers['settings'][0]['iqm']
    assert [float(lines[0][f'iqm{end}']) for end in ('', '_low', '_high')] == list(best)
    seeds = [line['seed'] for line in csv.DictReader((out / report_files.SCORES).open())]
    assert len(seeds) == 20 and set(seeds) == set('01234')


def test_the_page_has_the_best_settings_and_the_baseline_and_the_table_all(tmp_path):
    results = [sweep_results.make(f's{i:02d}', (float(i), i + 0.5)) for i in range(60)]
    report_files.write(tmp_path, results, baseline='s00')
    page = (tmp_path / report_files.PAGE).read_text()
    best = page[: page.index('Sample efficiency')]
    assert '<td>s59</td>' in best and '<td>s00 (baseline)</td>' in best
    assert '<td>s10</td>' not in best and 'The best 40 of 60' in best
    assert len((tmp_path / report_files.SETTINGS).read_text().splitlines()) == 61


def test_a_report_is_the_same_again(sweep):
    first, second = (report_files.read([sweep], sweep) for _ in range(2))
    assert report_files.write(sweep / 'a', first) == report_files.write(sweep / 'b', second)
    for name in (report_files.PAGE, report_files.NUMBERS):
        assert (sweep / 'a' / name).read_bytes() == (sweep / 'b' / name).read_bytes()


def test_a_sweep_of_failures_has_a_report(tmp_path):
    one = sweep_results.make('a', (1.0,), status='failed', error='Traceback\nboom <3')
    numbers = report_files.write(tmp_path, [one])
    assert numbers['settings'] == [] and 'boom &lt;3' in (tmp_path / report_files.PAGE).read_text()


def test_a_page_says_which_runs_were_stopped_and_averages_none_of_them(tmp_path):
    why = 'after round 1 of 9, at 4: not among the best 1/3 of the settings that came as far'
    stopped = {'status': 'stopped', 'stopped': why}
    results = [
        sweep_results.make('a', (1.0, 2.0), train_s=3600.0),
        sweep_results.make('a', (90.0,), seeds=[2], **stopped),  # of a setting that has others
        sweep_results.make('b', (70.0, 80.0), **stopped),
    ]
    numbers = report_files.write(tmp_path, results)
    (row,) = numbers['settings']
    assert row['setting'] == 'a' and row['mean'][0] == 1.5 and row['num_runs'] == 1
    assert [run['stopped'] for run in numbers['runs']] == ['', why, why]
    page = (tmp_path / report_files.PAGE).read_text()
    assert '2 runs were stopped early and are in no average: a; b' in page and why in page
    assert page.count('>stopped<') == 2


def test_equal_scores_of_one_evaluation_have_a_report(tmp_path):
    one = sweep_results.make('a', (0.0, 0.0))
    one = dataclasses.replace(one, curve=one.curve[:1])
    report_files.write(tmp_path, [one])
    page = (tmp_path / report_files.PAGE).read_text()
    assert 'All scores are equal,' in page and 'No setting has two evaluations,' in page
    assert 'nan' not in page


def test_a_run_in_two_sweeps_counts_once(tmp_path):
    for folder, status in (('x', 'failed'), ('y', 'finished'), ('z', 'failed')):
        result.write(tmp_path / folder, sweep_results.make('a', status=status))
    (one,) = report_files.read([tmp_path / name for name in 'xyz'], tmp_path)
    assert one.status == 'finished' and one.workdir == 'y/runs/a'


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(ValueError, match='expected the folder of a sweep, found no results/'):
        report_files.read([tmp_path], tmp_path)


def test_csv_curves_are_results(tmp_path):
    path = tmp_path / 'a.csv'
    lines = ['m,sac,dog_run,3,avg_return,0,1.5', 'm,sac,dog-run,3,avg_return,1e3,2.5']
    lines += ['m,sac,dog-run,3,other,0,9', 'm,sac,dog-run,4,avg_return,0,nan']
    path.write_text('\n'.join([',exp_name,env_name,seed,metric,env_step,value', *lines]))
    first, second = curves_csv.read([path])
    assert (first.name, first.task, first.seeds, first.budget) == ('sac', 'dog-run', [3], 1000)
    assert first.scores == [2.5] and [p['env_steps'] for p in first.curve] == [0, 1000]
    assert second.scores == [None] and second.best == [None]
    with pytest.raises(ValueError, match=r"--metric: expected one of \['avg_return', 'other'\], "):
        curves_csv.read([path], 'x')


@pytest.mark.parametrize(
    'text,words',
    [
        ('exp_name,env_name\na,b', "found no 'seed'"),
        ('exp_name,env_name,seed,metric,env_step,value\na,b,x,avg_return,0,1', 'line 2: could not'),
        ('exp_name,env_name,seed,metric,env_step,value\na,b,1,avg_return', 'line 2: '),
        ('exp_name,env_name,seed,metric,env_step,value\na,b,inf,avg_return,0,1', 'line 2: '),
    ],
)
def test_damaged_csv_files_are_named(tmp_path, text, words):
    path = tmp_path / 'a.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'a.csv.*{words}'):
        curves_csv.read([path])


def test_published_curves_are_ranked_as_published(data_dir, tmp_path):
    """SimbaV2 before TD-MPC2 and Simba, SAC last, on the tasks that all have at 1 M env steps."""
    folder = data_dir / 'rl_baseline_csv'
    if not folder.is_dir():
        pytest.skip(f'no published curves: {folder} is not a folder')
    results = curves_csv.read(sorted(folder.glob('*.csv')))
    results = [one for one in results if one.name in ALGORITHMS]
    tasks = [{one.task for one in results if one.name == name} for name in ALGORITHMS]
    shared = set.intersection(*tasks)
    results = [one for one in results if one.task in shared]
    numbers = report_files.write(tmp_path, results, baseline='sac', at=1_000_000)
    rows = numbers['settings']
    assert (rows[0]['setting'], rows[-1]['setting']) == ('simbaV2_utd2', 'sac')
    assert rows[0]['iqm'][1] > rows[1]['iqm'][2] and rows[2]['iqm'][1] > rows[3]['iqm'][2]
    assert rows[1]['iqm'][1] < rows[2]['iqm'][2]  # the two in the middle overlap
    assert all(row['num_tasks'] == len(shared) for row in rows)
    assert all(row['improvement'][1] > 0.5 for row in rows[:-1])
