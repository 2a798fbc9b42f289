"""The texts that say which settings there are."""

import math

import pytest

from jaxpolicy.sweeps import grid


def test_a_grid_is_every_combination_and_brackets_hold_commas():
    found = grid.combine('agent.hidden=(8,8),(16,) agent.tau=1,2')
    assert [setting.changes for setting in found] == [
        (('agent.hidden', hidden), ('agent.tau', tau))
        for hidden in ('(8,8)', '(16,)')
        for tau in '12'
    ]
    assert grid.combine('') == [grid.Setting('', ())]


def test_draws_are_in_their_ranges_and_the_first_ones_stay():
    text = 'a.x=log(1e-5,1e-2) a.y=uniform(-1,2) a.z=integer(1,3) a.n=choice(p,q) a.m=5,6'
    some, more = grid.draw(text, 40, seed=3), grid.draw(text, 400, seed=3)
    assert more[:40] == some and grid.draw(text, 40, seed=4) != some
    columns = [dict(setting.changes) for setting in more]
    x = [math.log10(float(row['a.x'])) for row in columns]
    assert -5 <= min(x) < -4.8 and -2.2 < max(x) <= -2
    assert abs(sum(x) / 400 + 3.5) < 0.2  # uniform in the logarithm
    y = [float(row['a.y']) for row in columns]
    assert -1 <= min(y) < -0.9 and 1.9 < max(y) <= 2 and abs(sum(y) / 400 - 0.5) < 0.2
    assert {row['a.z'] for row in columns} == {'1', '2', '3'}
    assert {row['a.n'] for row in columns} == {'p', 'q'}
    assert {row['a.m'] for row in columns} == {'5', '6'}


def test_a_list_has_names_comments_and_the_recipe_as_it_is():
    lines = ['# two settings', 'plain', 'slow: a.x=1e-5 a.y=(1, 2)  # really', '']
    assert grid.read_lines(lines, 'file') == [
        grid.Setting('plain', ()),
        grid.Setting('slow', (('a.x', '1e-5'), ('a.y', '(1, 2)'))),
    ]


def test_the_home_is_put_in_as_on_the_command_line(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert grid.changes('data.path=~/a,~/b', '') == (('data.path', '/home/me/a,/home/me/b'),)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: grid.combine('a.x'), "--grid: expected key=value, found 'a.x'"),
        (lambda: grid.combine('a.x=1 a.x=2'), "--grid: expected each key once, found 'a.x' again"),
        (lambda: grid.combine('a.x='), "--grid: a.x: expected values with commas, found ''"),
        (lambda: grid.combine('a.x=1,'), "--grid: a.x: expected values with commas, found '1,'"),
        (lambda: grid.combine('a.x=log(1,2)'), r"found the range 'log\(1,2\)', of which --random"),
        (lambda: grid.draw('a.x=log(0,2)', 1, 0), 'a.x: expected two rising numbers above 0'),
        (lambda: grid.draw('a.x=uniform(2,1)', 1, 0), 'a.x: expected two rising numbers, found'),
        (lambda: grid.draw('a.x=uniform(0,nan)', 1, 0), 'a.x: expected two rising numbers, found'),
        (lambda: grid.draw('a.x=uniform(1)', 1, 0), r'expected uniform\(low,high\), found'),
        (lambda: grid.draw('a.x=integer(1.5,2)', 1, 0), r'expected integer\(low,high\), found'),
        (lambda: grid.draw('', 1, 0), '--random: expected a --grid to draw from, found none'),
        (lambda: grid.read_lines(['a.x=1'], 'file'), "file, line 1: expected 'name: key=value"),
        (lambda: grid.read_lines(['one', 'one: a.x=1'], 'file'), "line 2: .* found 'one' again"),
        (lambda: grid.read_lines(['one a.x'], 'file'), 'file, line 1: expected key=value'),
        (lambda: grid.read_lines(['#'], 'file'), 'file: expected settings, found none'),
    ],
)
def test_what_is_no_grid_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()
