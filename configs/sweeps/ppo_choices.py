"""What each of PPO's correctness choices is worth on reach: ours, and each one as others make it.

  python -m experiments.sweep --sweep=configs/sweeps/ppo_choices.py --workdir=runs/ppo_choices
  python -m experiments.report runs/ppo_choices --baseline=ours --out=runs/ppo_choices/report

The choices are explained in `experiments.studies.ppo_choices`; docs/ablations.md has the results.
`configs/sweeps/ppo_choices_pendulum.py` asks the same on the pendulum, and
`ppo_choices_full.py` with larger batches and more seeds, for a GPU.
"""

from jaxpolicy.sweeps import definition

CACHED = 'loop.wrap=experiments.studies.ppo_choices.starts.cached'
OTHERS = {
    'time limit terminates': 'agent.time_limits=terminate',
    'statistics first': 'agent.statistics=before',
    'advantages by minibatch': 'agent.advantages=minibatch',
    'cached starts': CACHED,
}


def settings():
    """Ours, each choice alone as others make it, all of them together, and a middle way.

    The middle way is ours, but for the very first rollout, before which there are no statistics.
    """
    each = [f'{name.replace(" ", "_")}: {change}' for name, change in OTHERS.items()]
    all_four = f'all_four: {" ".join(OTHERS.values())}'
    return ('ours:', *each, all_four, 'first_statistics_first: agent.statistics=first_before')


def get_sweep():
    return definition.Sweep(
        recipes=('configs/reach/ppo_choices.py',),
        settings=settings(),
        num_seeds=5,
        question='What is each correctness choice of PPO worth on reach?',
        expected='bootstrapping at the time limit matters most; cached starts cost nothing here',
    )
