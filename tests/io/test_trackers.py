"""What trackers are told, and that none of them stops training."""

import json
import struct
import sys
import time
import types

import pytest
from absl import flags

from jaxpolicy.io import metrics, trackers, wandb_tracker

PLACE = wandb_tracker.Place('project', 'agent.gamma=0.9, seed 3', 'sweep')


@pytest.fixture
def directory(tmp_path):
    """A workdir with its config.json."""
    write_config(tmp_path)
    return tmp_path


def write_config(directory, **agent):
    config = {'agent': {'gamma': 0.9, 'hidden': [8, 8], 'clip': None} | agent, 'eval': {'every': 2}}
    (directory / 'config.json').write_text(json.dumps({'config': config, 'seed': 3}))


def write(writer, *indices):
    for index in indices:
        writer.write({'train/loss': index / 2}, index, 100 * index, 10 * index)


class Fake(types.ModuleType):
    """Stands in for the package wandb, and keeps what it is told."""

    def __init__(self, fails_at=None):
        super().__init__('wandb')
        self.fails_at, self.begun, self.axes, self.logged, self.ends = fails_at, [], [], [], []
        self.Settings, self.disabled = dict, False

    def init(self, **given):
        if self.fails_at == 0:
            raise RuntimeError('no network,\nand no key')
        self.begun.append(given)
        return self

    def define_metric(self, name, step_metric):
        self.axes.append((name, step_metric))

    def log(self, row, step):
        if step == self.fails_at:
            raise RuntimeError('disk full')
        self.logged.append((step, row['env_steps'], row['updates'], row['train/loss']))

    def finish(self, exit_code):
        self.ends.append(exit_code)


def open_writer(monkeypatch, directory, fake, fresh=False, place=PLACE):
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    tracker = wandb_tracker.Wandb(directory, place, fresh)
    return metrics.open_writer(directory, tensorboard=False, more=[tracker])


def test_a_run_has_its_name_its_config_and_its_rows(directory, monkeypatch):
    fake = Fake()
    writer = open_writer(monkeypatch, directory, fake, fresh=True)
    write(writer, 1, 2)
    writer.close()
    (given,) = fake.begun
    assert (given['project'], given['name'], given['group']) == tuple(PLACE)
    assert given['config'] == {
        **{'agent.gamma': 0.9, 'agent.hidden': [8, 8], 'agent.clip': None, 'eval.every': 2},
        **{'seed': 3, 'num_seeds': 1},
    }
    assert fake.axes == [('*', 'env_steps')] and fake.ends == [0]
    assert fake.logged == [(1, 100, 10, 0.5), (2, 200, 20, 1.0)]
    unnamed = Fake()
    place = wandb_tracker.Place('other')
    open_writer(monkeypatch, directory, unnamed, place=place).close()
    assert unnamed.begun[0]['name'] == directory.name and unnamed.begun[0]['group'] is None
    assert unnamed.begun[0]['id'] != given['id'] and len(unnamed.logged) == 2  # another project


def test_a_run_that_is_continued_is_one_run_and_no_round_is_told_twice(directory, monkeypatch):
    fake = Fake()
    writer = open_writer(monkeypatch, directory, fake, fresh=True)
    write(writer, 1, 2, 3)
    writer.close()
    writer = open_writer(monkeypatch, directory, fake)
    writer.truncate(1)
    write(writer, 2, 3, 4)
    writer.close()
    writer = metrics.open_writer(directory, tensorboard=False)  # without W&B, which catches up
    write(writer, 5)
    writer.close()
    write_config(directory, gamma=0.95)  # as what may change when a run is continued
    writer = open_writer(monkeypatch, directory, fake)
    write(writer, 6)
    writer.close()
    assert [step for step, *_ in fake.logged] == [1, 2, 3, 4, 5, 6]
    assert len({given['id'] for given in fake.begun}) == 1
    assert {given['resume'] for given in fake.begun} == {'allow'}


def test_a_run_that_begins_anew_with_another_config_is_another_run(directory, monkeypatch):
    fake = Fake()
    for gamma in (0.9, 0.9, 0.8):
        write_config(directory, gamma=gamma)
        writer = open_writer(monkeypatch, directory, fake, fresh=True)
        writer.truncate(0)
        write(writer, 1)
        writer.close()
    first, again, other = (given['id'] for given in fake.begun)
    assert first == again != other
    assert [step for step, *_ in fake.logged] == [1, 1]


def test_what_a_disabled_tracker_was_told_is_told_later(directory, monkeypatch):
    fake = Fake()
    for disabled in (True, False):
        fake.disabled, fake.logged = disabled, []
        open_writer(monkeypatch, directory, fake).close()
        writer = open_writer(monkeypatch, directory, fake)
        write(writer, 1 if disabled else 2)
        writer.close()
    assert [step for step, *_ in fake.logged] == [1, 2]


@pytest.mark.parametrize(
    ('fails_at', 'message', 'told'),
    [(0, 'no network, and no key', []), (2, 'disk full', [1])],
)
def test_a_tracker_that_fails_is_one_warning(
    directory, monkeypatch, capsys, fails_at, message, told
):
    fake = Fake(fails_at)
    writer = open_writer(monkeypatch, directory, fake)
    write(writer, 1, 2, 3)
    writer.close()
    assert len(metrics.read(directory)) == 3 and [step for step, *_ in fake.logged] == told
    assert capsys.readouterr().err.splitlines() == [
        f'warning: Weights & Biases gets no more rows, and training goes on: {message}'
    ]


def test_an_error_here_is_a_failed_run_there(directory, monkeypatch):
    fake = Fake()
    writer = open_writer(monkeypatch, directory, fake)
    try:
        raise KeyError
    except KeyError:
        writer.close()
    assert fake.ends == [1]


@pytest.fixture
def given(monkeypatch):
    """The flags of trackers, which a test may set."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, 'FLAGS', values)
    for name in ('project', 'name', 'group'):
        flags.DEFINE_string(f'wandb_{name}', '', 'x', flag_values=values)
    values.mark_as_parsed()
    return values


def test_flags_say_where_runs_are_shown(given, tmp_path, monkeypatch):
    assert wandb_tracker.place_of_flags() is None and wandb_tracker.flags_of_sweep(tmp_path) == []
    given.wandb_group = 'g'
    with pytest.raises(ValueError, match='--wandb_group: expected a --wandb_project with it'):
        wandb_tracker.place_of_flags()
    given.wandb_project = 'p'
    monkeypatch.setitem(sys.modules, 'wandb', None)
    for ask in (wandb_tracker.place_of_flags, lambda: wandb_tracker.flags_of_sweep(tmp_path)):
        with pytest.raises(ValueError, match='--wandb_project: expected the package wandb, found'):
            ask()
    monkeypatch.setattr(wandb_tracker, 'check_installed', lambda: None)
    assert wandb_tracker.place_of_flags() == wandb_tracker.Place('p', '', 'g')
    expected = ['--wandb_project=p', f'--wandb_group={tmp_path.name}']
    assert wandb_tracker.flags_of_sweep(tmp_path) == expected
    named = wandb_tracker.flags_of_run(['--novideo', *expected], 'a, seed 0')
    assert named == ['--wandb_name=a, seed 0']
    assert wandb_tracker.flags_of_run(['--novideo'], 'a, seed 0') == []


def test_tensorboard_shows_the_config(directory):
    writer = metrics.open_writer(directory)
    write(writer, 1)
    writer.truncate(0)
    writer.close()
    (path,) = (directory / trackers.TENSORBOARD).iterdir()
    data = path.read_bytes()
    for part in (b'config/text_summary', b'    agent.hidden=[8, 8]\n', b'agent.gamma=0.9\n'):
        assert part in data
    assert b'_hparams_/session_start_info' in data and b'_hparams_/experiment' not in data


def records(path):
    """The records of a file of W&B, which has the format of LevelDB's log behind 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, b''
    while place + 7 <= len(data):
        if (rest := 32768 - place % 32768) < 7:
            place += rest
            continue
        _, size, kind = struct.unpack('<IHB', data[place : place + 7])
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b''


def test_the_package_itself_offline(directory, monkeypatch):
    """What it keeps for `wandb sync`: one run in two files, each round once."""
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    for fresh, rounds in ((True, (1, 2, 3)), (False, (3, 4))):
        tracker = wandb_tracker.Wandb(directory, PLACE, fresh)
        writer = metrics.open_writer(directory, tensorboard=False, more=[tracker])
        writer.truncate(rounds[0] - 1)
        write(writer, *rounds)
        writer.close()
        time.sleep(1.1)  # its folders are named by the second
    paths = sorted(directory.glob('wandb/offline-run-*/*.wandb'))
    found = [list(records(path)) for path in paths]
    names, steps = [], []
    for file in found:
        (run,) = (record.run for record in file if record.HasField('run'))
        names.append((run.run_id, run.project, run.display_name, run.run_group))
        config = {entry.key: json.loads(entry.value_json) for entry in run.config.update}
        assert config['agent.gamma'] == 0.9 and config['seed'] == 3
        steps.append([r.history.step.num for r in file if r.HasField('history')])
    assert names[0] == names[1] and names[0][1:] == tuple(PLACE)
    assert steps == [[1, 2, 3], [4]]
