"""SAC on MuJoCo Playground's CartpoleSwingup, as others publish it; needs the extra `playground`.

  python -m experiments.train --config=configs/playground/sac_cartpole_swingup.py \
      --workdir=runs/sac_swingup --num_seeds=5

An action is repeated twice, so that 50,000 env steps are the 100,000 frames of published curves on
DM Control. There is one update for each env step.

Expected: a return of 844 [819, 870] after 50,000 steps (5 seeds; published: 855, 864, 864) and of
853 [844, 861] after 100,000, after 76 and 103 s of training on a shared H200 (commit 307214e;
docs/off-policy.md).
"""

from jaxpolicy.runs import recipe


def get_config():
    config = recipe.off_policy('sac', 'playground/CartpoleSwingup')
    config.env.action_repeat = 2
    config.env.episode_steps = 500
    config.loop.num_envs = 4
    config.loop.num_minibatches = 4
    config.loop.learning_starts = 2_000
    config.loop.buffer_size = 100_000
    config.loop.iterations_per_round = 500
    config.loop.num_env_steps = 50_000
    config.eval.every = 4
    config.checkpoint.every = 8
    config.eval.num_episodes = 20
    config.eval.modes = ('deterministic',)
    config.eval.score = 'return'
    config.eval.metrics = ('return', 'length')
    return config
