"""The sampling benchmark on a tiny network: its figures make sense, and its peer agrees."""

import importlib.util

import jax
import numpy as np
import pytest

from experiments.bench import sampling_parts as parts
from jaxpolicy.agents import diffusion_policy
from jaxpolicy.io import latency

TINY = {'network': 'unet1d', 'dims': (8, 16), 'kernel_size': 3}


@pytest.fixture(scope='module')
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parts.NETWORKS, 'tiny', TINY)
        yield parts.Case('tiny', 'ddim', 2, 3, 'float32')


@pytest.fixture(scope='module')
def built(tiny):
    return parts.build(tiny)


def test_a_row(tiny, built):
    limits = parts.Limits(1e9, 1e9)
    assert np.asarray(built.runner.call(0)).shape == (3, 16, 2)
    times = latency.milliseconds(built.runner.call, least_s=0.0)
    row = parts.row('jaxpolicy', tiny, built, built.runner, times, limits)
    assert row['who'] == 'jaxpolicy' and row['batch'] == 3 and row['num_calls'] == 20
    assert 0 < row['p50_ms'] <= row['p95_ms'] <= row['p99_ms'] and row['compile_s'] > 0
    assert row['actions_per_s'] == pytest.approx(1e3 * 16 * 3 / row['p50_ms'])
    assert row['network_ms'] == pytest.approx(row['p50_ms'] / 2)
    assert row['memory_ms'] == pytest.approx(2 * 4 * built.num_params * 1e-6)
    # of the products alone: two per weight and time step that it is used at, at most 16 of them
    assert 2 * built.num_params * 3 < built.flops < 4 * built.num_params * 3 * 16
    assert row['over_limit'] == row['p50_ms'] / max(row['memory_ms'], row['flops_ms'])


def test_plans_are_not_all_the_same(built):
    """Or XLA could have computed them while compiling."""
    call = built.runner.call
    assert np.abs(np.asarray(call(0)) - np.asarray(call(1))).max() > 1e-3


def test_the_network_s_calls_are_those_of_the_agent(tiny, built):
    assert built.num_evaluations == 2
    heun = parts.make_config(tiny._replace(sampler='heun', steps=5))
    assert diffusion_policy.num_evaluations(heun) == 9


def test_the_paper_s_network_has_its_size():
    config = parts.make_config(parts.Case('unet_large', 'ddim', 10, 1, 'float32'))
    agent = diffusion_policy.make(config, parts.SPEC)
    params = jax.eval_shape(agent.init, jax.random.key(0)).params
    assert sum(x.size for x in jax.tree.leaves(params)) == pytest.approx(65.8e6, rel=0.01)


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('network', 'unet', "--network: .*'unet_large'.*found 'unet'"),
        ('sampler', 'plms', "--sampler: .*'ddim'.*found 'plms'"),
        ('dtype', 'float8', "--dtype: .*'bfloat16'.*found 'float8'"),
        ('steps', 101, 'expected 1 to 100 .*found 101'),
    ],
)
def test_mistakes_are_named(field, value, message):
    case = parts.Case('mlp', 'ddim', 10, 1, 'float32')._replace(**{field: value})
    with pytest.raises(ValueError, match=message):
        parts.check(case)
    with pytest.raises(ValueError, match='--batch: expected positive integers'):
        parts.numbers('batch', ['1', '0'])


@pytest.mark.skipif(importlib.util.find_spec('diffusers') is None, reason="needs the extra 'bench'")
def test_the_peer_is_the_same_network(built):
    from experiments.bench.peers import torch_unet

    torch_unet.make_network(built)  # raises where outputs differ
    broken = dict(built.params['params'])
    broken['Dense_2'] = {**broken['Dense_2'], 'bias': broken['Dense_2']['bias'] + 1.0}
    net = torch_unet.make_network(built)
    with pytest.raises(ValueError, match='differs from ours'):
        torch_unet.compare(net, built._replace(params={'params': broken}))
