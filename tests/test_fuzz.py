"""No change of a recipe ends in a traceback: it trains, or one line names the key."""

import os

import pytest

fuzz_configs = pytest.importorskip('tests.fuzz_configs', exc_type=ImportError)

NUM_EXAMPLES = int(os.environ.get('FUZZ_EXAMPLES', '300'))


@pytest.mark.slow
def test_what_is_no_run_is_refused_with_one_line(tmp_path):
    pytest.importorskip('mujoco_playground', reason='the extra `playground` is not installed')
    counts, faults = fuzz_configs.fuzz(NUM_EXAMPLES, tmp_path)
    assert not faults
    assert counts['accepted'] > NUM_EXAMPLES // 20
    assert counts['refused'] > NUM_EXAMPLES // 3
