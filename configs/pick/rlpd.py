"""RLPD on pick: SAC with a sparse reward, and demonstrations in half of each minibatch.

  python -m experiments.collect --env=pick --override=reward=sparse --num_episodes=100 \
      --out=data/pick_sparse.npz
  python -m experiments.train --config=configs/pick/rlpd.py --workdir=runs/rlpd

It is meant for two CPU cores. Expected: success .50 [.25, .75] after 25,600 env steps, .88 after
41,600 and .95 [.91, 1.0] after 61,600 (5 seeds, 128 episodes each; commit 2609d7b). All five seeds
together take 28 minutes on one of two cores of an AMD EPYC (docs/off-policy.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = sparse()
    config.data.path = 'data/pick_sparse.npz'
    config.loop.demo_share = 0.5
    config.agent.num_critics = 6
    config.agent.layer_norm = True
    config.agent.mean_value = True
    return config


def sparse():
    """Returns the recipe of SAC on pick with a reward only where the cube is at its goal."""
    config = recipe.off_policy('sac', 'pick')
    config.env.reward = 'sparse'
    config.agent.hidden = (128, 128)
    config.agent.gamma = 0.97
    config.agent.init_temperature = 0.1
    config.normalize.obs = 'running'
    config.loop.num_envs = 16
    config.loop.num_minibatches = 8
    config.loop.batch_size = 256
    config.loop.buffer_size = 100_000
    config.loop.learning_starts = 1_600
    config.loop.iterations_per_round = 250
    config.loop.num_env_steps = 60_000
    config.eval.every = 2
    config.eval.num_episodes = 128
    config.eval.score = 'success_final'
    config.eval.metrics = ('return', 'success_final', 'length')
    config.checkpoint.every = 4
    return config
