"""The peer of `experiments.bench.rl`: brax's PPO on the same environment, round by round.

Where brax offers a choice, its defaults are changed, so that both sides have the same networks
(and their initial weights' distribution), Gaussian policy, losses, learning rate, its adaptation by
KL, global-norm clipping, sizes, discount and time limit. `DIFFERENCES` says what remains.
"""

import dataclasses
import json
import queue
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
from brax import envs as brax_envs
from brax.training.agents.ppo import networks
from brax.training.agents.ppo import train as ppo
from ml_collections import config_dict

from jaxpolicy import types
from jaxpolicy.runs import environment

from .. import ours

PyTree = Any

DIFFERENCES = (
    'minibatches: whole sequences of an env (brax), single steps (ours)',
    'advantages: anew in every minibatch and normalised there (brax), once per rollout (ours)',
    'ended episodes: back to their own first state (brax), to a fresh one (ours)',
    'time limits: the step is left out (brax), bootstrapped (ours)',
    'elu: of jax.nn (brax), with a derivative from its output (ours)',
    'observations: normalised, unclipped (brax), clipped to 10 standard deviations (ours)',
)


class _Task(brax_envs.Env):
    """One of our environments, unbatched and without a time limit, as brax's."""

    def __init__(self, env: types.Env):
        self._env = env

    def reset(self, rng: jax.Array) -> brax_envs.State:
        return self._pack(self._env.reset(jax.random.wrap_key_data(rng)))

    def step(self, state: brax_envs.State, action: jax.Array) -> brax_envs.State:
        inner: Any = state.pipeline_state
        inner = self._env.step(inner.replace(key=jax.random.wrap_key_data(inner.key)), action)
        return dataclasses.replace(self._pack(inner), info=state.info)

    def _pack(self, inner: Any) -> brax_envs.State:
        done = inner.termination.astype(inner.reward.dtype)
        inner = inner.replace(key=jax.random.key_data(inner.key))  # brax selects between states
        return brax_envs.State(inner, inner.obs, inner.reward, done, dict(inner.metrics), {})

    @property
    def observation_size(self) -> int:
        return self._env.spec.obs.shape[-1]

    @property
    def action_size(self) -> int:
        return self._env.spec.action.shape[0]

    @property
    def backend(self) -> str:
        return 'mjx'


def _env(config: config_dict.ConfigDict) -> tuple[Any, Callable, int]:
    """The environment, how to wrap it for training, and how often it repeats an action."""
    task, chosen = environment.on_device(config)
    if not task.name.startswith('playground/'):
        assert task.make is not None
        return _Task(task.make(chosen)), brax_envs.training.wrap, 1
    from mujoco_playground import registry, wrapper  # pyright: ignore[reportMissingImports]

    overrides = json.loads(chosen.overrides or '{}') | {'impl': chosen.impl}
    env = registry.load(chosen.task, config_overrides=overrides)
    return env, wrapper.wrap_for_brax_training, chosen.action_repeat


def _networks(config: config_dict.ConfigDict) -> Callable:
    agent, init = config.agent, jax.nn.initializers.orthogonal

    def make(observation_size, action_size, preprocess_observations_fn):
        return networks.make_ppo_networks(
            observation_size,
            action_size,
            preprocess_observations_fn,
            policy_hidden_layer_sizes=agent.hidden,
            value_hidden_layer_sizes=agent.hidden,
            activation=vars(jax.nn)[agent.activation],
            distribution_type='normal',
            noise_std_type='log',
            init_noise_std=agent.init_std,
            policy_network_kernel_init_fn=init,
            policy_network_kernel_init_kwargs={'scale': 2.0**0.5},
            value_network_kernel_init_fn=init,
            value_network_kernel_init_kwargs={'scale': 2.0**0.5},
            mean_kernel_init_fn=init,
            mean_kernel_init_kwargs={'scale': 0.01},
        )

    return make


def _options(
    config: config_dict.ConfigDict, seed: int, repeat: int, num_rounds: int
) -> dict[str, Any]:
    """The arguments of brax's `train` that mean what the config means."""
    agent, loop = config.agent, config.loop
    per_round = loop.num_envs * loop.rollout_length * loop.iterations_per_round * repeat
    if loop.num_envs % agent.num_minibatches:
        raise ValueError(
            f'--peer=brax: expected num_envs in whole minibatches of sequences, found '
            f'{loop.num_envs} and {agent.num_minibatches}'
        )
    return {
        'num_timesteps': num_rounds * per_round,
        'num_evals': num_rounds + 1,
        'run_evals': False,
        'max_devices_per_host': 1,  # as ours
        'num_envs': loop.num_envs,
        'unroll_length': loop.rollout_length,
        'batch_size': loop.num_envs // agent.num_minibatches,
        'num_minibatches': agent.num_minibatches,
        'num_updates_per_batch': agent.num_epochs,
        'episode_length': config.env.episode_steps * repeat,  # brax counts the env's own steps
        'action_repeat': repeat,
        'learning_rate': agent.learning_rate,
        'learning_rate_schedule': 'ADAPTIVE_KL' if agent.target_kl else 'NONE',
        'desired_kl': agent.target_kl,
        'learning_rate_schedule_min_lr': agent.min_learning_rate,
        'learning_rate_schedule_max_lr': agent.max_learning_rate,
        'entropy_cost': agent.entropy_cost,
        'discounting': agent.gamma,
        'gae_lambda': agent.lambda_,
        'clipping_epsilon': agent.clip,
        'vf_loss_coefficient': agent.value_cost,
        'max_grad_norm': agent.max_grad_norm,
        'reward_scaling': agent.reward_scale,
        'normalize_observations': config.normalize.obs == 'running',
        'seed': seed,
    }


class _Closed(Exception):
    """Ends brax's training from within its callback."""


def start(config: config_dict.ConfigDict, seed: int) -> ours.Contender:
    """A run from scratch, in a thread that waits in brax's callback between two rounds."""
    env, wrap, repeat = _env(config)
    options = _options(config, seed, repeat, num_rounds=10_000)
    turn, results = threading.Semaphore(0), queue.Queue()
    closed, latest, total = threading.Event(), {}, [0.0]

    def wait() -> None:
        turn.acquire()
        if closed.is_set():
            raise _Closed

    def progress(_, metrics) -> None:
        results.put(metrics['training/walltime'])
        wait()

    def keep(_, make_policy, params) -> None:
        latest.update(params=params, make=make_policy)

    def train() -> None:
        try:
            wait()
            with mock.patch.object(jax, 'device_put_replicated', _stacked, create=True):
                ppo.train(
                    env,
                    wrap_env_fn=wrap,
                    network_factory=_networks(config),
                    progress_fn=progress,
                    policy_params_fn=keep,
                    **options,
                )
        except _Closed:
            pass
        except BaseException as error:
            results.put(error)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()

    def one_round() -> float:
        turn.release()
        result = results.get()
        if isinstance(result, BaseException):
            raise result
        before, total[0] = total[0], result
        return total[0] - before

    def policy_of(params: PyTree) -> types.Policy:
        infer = latest['make'](params, deterministic=True)
        return types.Policy(lambda obs: (), lambda carry, obs, key: (carry, infer(obs, key)[0], {}))

    def close() -> None:
        closed.set()
        turn.release()
        thread.join()

    return ours.Contender(one_round, lambda: latest['params'], policy_of, close)


def _stacked(tree: PyTree, devices: list[Any]) -> PyTree:
    """What `jax.device_put_replicated`, which brax calls and JAX has removed, did on one device."""
    del devices
    return jax.tree.map(lambda x: jax.numpy.asarray(x)[None], tree)


def raw(config: config_dict.ConfigDict) -> Callable[[], float]:
    """A clock: seconds for one round's env steps with random actions, in brax's wrappers."""
    env, wrap, repeat = _env(config)
    env = wrap(env, episode_length=config.env.episode_steps * repeat, action_repeat=repeat)
    num_envs, loop = config.loop.num_envs, config.loop

    def step(state, key):
        action = jax.random.uniform(key, (num_envs, env.action_size), minval=-1)
        return env.step(state, action), None

    def init(key):
        return env.reset(jax.random.key_data(jax.random.split(key, num_envs)))

    def one_round(state, key):
        keys = jax.random.split(key, loop.iterations_per_round * loop.rollout_length)
        return jax.lax.scan(step, state, keys)[0]

    return ours.repeat(init, one_round)
