"""SAC on reach: updates for each env step, times the number of critics.

  python -m experiments.sweep --sweep=configs/sweeps/sac_updates.py --workdir=runs/sac_updates
  python -m experiments.report runs/sac_updates --baseline='num_minibatches=16, num_critics=2' \
      --out=runs/sac_updates/report

An iteration takes 64 env steps and `loop.num_minibatches` updates, so that 4, 16 and 64 are 1/16,
1/4 (the recipe) and 1 update for each step. Of five critics, two random ones make each target, as
in REDQ (Chen et al., 2021), and the actor climbs the least of all. docs/ablations.md has the
results; `sac_updates_full.py` goes further, for a GPU.
"""

from jaxpolicy.sweeps import definition


def get_sweep():
    return definition.Sweep(
        recipes=('configs/reach/sac.py',),
        overrides=(
            'loop.num_env_steps=16000',
            'loop.iterations_per_round=25',
            'eval.num_episodes=128',
            'checkpoint.every=9',
        ),
        grid='loop.num_minibatches=4,16,64 agent.num_critics=2,5',
        num_seeds=5,
        question='Do more updates for each step learn sooner, and do more critics help them?',
        expected='more updates learn sooner; more critics matter at one update a step or more',
    )
