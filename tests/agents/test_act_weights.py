"""Every agent that averages its weights can act with them, or with those of the last update."""

import dataclasses
import types
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import config_dict

from jaxpolicy import registry, train_state
from jaxpolicy.runs import beginning
from jaxpolicy.types import Spec
from tests import acting, weights

SPEC = Spec(*(jax.ShapeDtypeStruct((size,), np.float32) for size in (3, 2)))
FIELDS = {
    **{'network': 'mlp', 'width': 8, 'num_blocks': 1, 'pred_horizon': 2, 'action_horizon': 1},
    **{'num_train_steps': 2, 'num_sample_steps': 1, 'sampler': 'ddim', 'clip': 100.0},
}
AVERAGING = sorted(
    name
    for name in registry.TABLES['agents']
    if hasattr(registry.resolve('agents', name, 'agent.name').Config(), 'ema_power')
)


@pytest.mark.parametrize('name', AVERAGING)
def test_an_average_acts_unless_the_last_weights_shall(name):
    module = registry.resolve('agents', name, 'agent.name')
    known = {field.name for field in dataclasses.fields(module.Config)}
    fields = {key: value for key, value in FIELDS.items() if key in known}
    ema = module.make(module.Config(**fields), SPEC)
    raw = module.make(module.Config(**fields, act_weights='raw'), SPEC)
    state = jax.eval_shape(ema.init, jax.random.key(0))
    params, average = (weights.random(state.params, seed=seed) for seed in (1, 2))
    obs = np.random.default_rng(0).normal(size=(1, 2, 3)).astype(np.float32)

    def act(agent, params, average):
        found = state.replace(params=params, target_params=average)
        return acting.act_of(agent)(found, obs, jax.random.key(3))[0]

    assert 'act_weights' in module.ACTING and module.Config().act_weights == 'ema'
    np.testing.assert_array_equal(act(raw, params, average), act(ema, average, params))
    assert (act(raw, params, average) != act(ema, params, average)).any()


@pytest.mark.parametrize(('act_weights', 'wanted'), [('ema', 2.0), ('raw', 1.0)])
def test_a_run_that_begins_with_another_one_takes_the_weights_that_act(act_weights, wanted):
    agent = config_dict.ConfigDict({'name': 'bc', 'act_weights': act_weights})
    train = train_state.create({'policy': np.ones(2)}, {}, {'policy': np.full(2, 2.0)})
    other: Any = types.SimpleNamespace(config=config_dict.ConfigDict({'agent': agent}), train=train)
    params, targets = beginning._weights(other, ['policy'], train)
    np.testing.assert_array_equal(params['policy'], np.full(2, wanted))
    np.testing.assert_array_equal(targets['policy'], np.full(2, 2.0))
