"""Stable-Baselines3 as a peer of `experiments.bench.rl`: SAC and TD3 with our recipe's numbers.

It runs Gymnasium's environment of the same name, in PyTorch on the CPU.
"""

import time

import gymnasium
import numpy as np
import stable_baselines3 as sb3
import torch
from ml_collections import config_dict
from stable_baselines3.common import noise as sb3_noise

from jaxpolicy.runs import sections

ENVS = {'pendulum': 'Pendulum-v1'}
DIFFERENCES = (
    'the peer steps one environment and updates once a step, as is its habit; ours as config.loop',
    "the peer's environment is NumPy's, ours is compiled",
    "the peer's SAC scales the last layer's first weights as PyTorch does",
)


def train(
    config: config_dict.ConfigDict, num_steps: int, seed: int, num_episodes: int
) -> tuple[float, float]:
    """Trains the peer: its seconds, and its deterministic policy's mean return in fresh episodes.

    Raises:
      ValueError: the peer does not have the task or the agent.
    """
    name = ENVS[sections.choose('env.name (for --peer=sb3)', ENVS, config.env.name)]
    makers = {'sac': sb3.SAC, 'td3': sb3.TD3}
    maker = makers[sections.choose('agent.name (for --peer=sb3)', makers, config.agent.name)]
    agent, loop = config.agent, config.loop
    extras = {}
    if config.agent.name == 'td3':
        noise = np.full(1, agent.exploration_noise)
        extras = {
            'action_noise': sb3_noise.NormalActionNoise(np.zeros(1), noise),
            'target_policy_noise': agent.policy_noise,
            'target_noise_clip': agent.noise_clip,
            'policy_delay': agent.actor_delay,
        }
    model = maker(
        'MlpPolicy',
        gymnasium.make(name),
        learning_rate=agent.learning_rate,
        buffer_size=loop.buffer_size,
        learning_starts=loop.learning_starts,
        batch_size=loop.batch_size,
        tau=agent.tau,
        gamma=agent.gamma,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={'net_arch': list(agent.hidden), 'activation_fn': torch.nn.ReLU},
        seed=seed,
        device='cpu',
        **extras,
    )
    begin = time.perf_counter()
    model.learn(num_steps)
    seconds = time.perf_counter() - begin
    return seconds, _evaluate(model, gymnasium.make(name), num_episodes)


def _evaluate(model, env, num_episodes: int) -> float:
    """The mean return of the deterministic policy."""
    returns = []
    for seed in range(num_episodes):
        obs, _ = env.reset(seed=100_000 + seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))
