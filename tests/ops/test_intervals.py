import numpy as np
import pytest
from scipy import stats

from jaxpolicy.ops import intervals


def test_wilson_intervals():
    # Newcombe (1998), table I, method 3 (score without continuity correction).
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        x = np.arange(n) < successes
        found = intervals.confidence_interval(x.astype(float), 'binary')
        np.testing.assert_allclose(found, (successes / n, low, high), atol=5e-5)
    mean, low, high = intervals.confidence_interval(np.zeros(20), 'binary')
    assert mean == 0 and low == 0
    np.testing.assert_allclose(high, 0.1611, atol=5e-5)
    reference = stats.binomtest(9, 10).proportion_ci(0.9, 'wilson')
    found = intervals.confidence_interval(np.arange(10) < 9, 'binary', level=0.9)
    np.testing.assert_allclose(found[1:], (reference.low, reference.high), rtol=1e-9)


def test_student_intervals():
    x = np.array([1.0, 2.0, 4.0, 8.0, 3.5])
    mean, low, high = intervals.confidence_interval(x, 'real')
    expected = stats.t.interval(0.95, 4, loc=x.mean(), scale=stats.sem(x))
    np.testing.assert_allclose((low, high), expected, rtol=1e-9)
    assert mean == x.mean()
    assert intervals.confidence_interval(x[:1], 'real') == (1.0, -np.inf, np.inf)


@pytest.mark.parametrize(
    ('x', 'kind', 'level', 'message'),
    [
        ([], 'real', 0.95, 'x: expected finite values'),
        ([0.0, np.nan], 'real', 0.95, 'x: expected finite values'),
        ([0.0, 0.5], 'binary', 0.95, 'x: expected zeros and ones'),
        ([0.0, 1.0], 'other', 0.95, "kind: expected 'binary' or 'real', found 'other'"),
        ([0.0, 1.0], 'real', 95.0, 'level: expected a number between 0 and 1, found 95.0'),
    ],
)
def test_confidence_interval_refuses(x, kind, level, message):
    with pytest.raises(ValueError, match=message):
        intervals.confidence_interval(np.array(x), kind, level)
