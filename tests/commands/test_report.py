import types

import pytest

from experiments import report
from jaxpolicy.sweeps import result
from tests.sweeps import sweep_results


def run(monkeypatch, **given):
    names = ('workdirs', 'curves', 'baseline', 'at', 'reference')
    values = dict.fromkeys(names) | {'metric': 'avg_return', 'checkpoint': 'last'} | given
    monkeypatch.setattr(report, 'FLAGS', types.SimpleNamespace(**values))
    report.main([])


def test_a_sweep_and_other_peoples_curves_are_in_one_report(tmp_path, monkeypatch, capsys):
    result.write(tmp_path / 'sweep', sweep_results.make('ours', (1.0, 2.0), score='avg_return'))
    curves = tmp_path / 'theirs.csv'
    curves.write_text('exp_name,env_name,seed,metric,env_step,value\nsac,reach,0,avg_return,9,4')
    reference = tmp_path / 'reference.json'
    reference.write_text('{"reach": [0, 8]}')
    out = tmp_path / 'out'
    run(
        monkeypatch,
        workdirs=[str(tmp_path / 'sweep')],
        curves=[str(curves)],
        reference=str(reference),
        out=str(out),
        baseline='sac',
    )
    text = capsys.readouterr().out
    assert 'sac: IQM 0.5 [0.5, 0.5]' in text and 'ours: IQM 0.1875' in text
    assert 'warning: Fewer than 5 seeds of 2 settings' in text
    names = {path.name for path in out.iterdir()}
    assert names == {'report.html', 'report.json', 'settings.csv', 'scores.csv'}


def test_nothing_to_report_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='--workdirs: expected the folder of a sweep, or --curves'):
        run(monkeypatch, out=str(tmp_path))


@pytest.mark.parametrize('text,words', [('{', 'not JSON'), ('[1]', 'expected an object')])
def test_a_damaged_reference_is_named(tmp_path, text, words):
    path = tmp_path / 'reference.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'--reference: .*{words}'):
        report.read_reference(str(path))
