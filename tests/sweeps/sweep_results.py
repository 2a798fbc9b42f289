"""Results of runs that were never trained."""

from jaxpolicy.sweeps.result import Result


def make(name='a', scores=(0.5,), seeds=None, **changed):
    """A finished run of a setting; one evaluation half-way, one at its end."""
    seeds = list(range(len(scores))) if seeds is None else list(seeds)
    half = [None if x is None else x / 2 for x in scores]
    fields = {
        'name': name,
        'identity': f'{name}-{changed.get("task", "reach")}-{seeds}',
        'workdir': f'runs/{name}',
        'task': 'reach',
        'recipe': 'configs/reach/ppo.py',
        'changes': {},
        'seeds': seeds,
        'status': 'finished',
        'score': 'return',
        'scores': list(scores),
        'best': [None if x is None else x + 1.0 for x in scores],
        'curve': [
            {'env_steps': 500, 'updates': 5, 'values': half},
            {'env_steps': 1000, 'updates': 10, 'values': list(scores)},
        ],
        'num_episodes': 50,
        'budget': 1000,
        'train_s': 60.0,
        'compile_s': 20.0,
        'eval_s': 10.0,
        'memory_bytes': 2**30,
        'device': '2 x cpu',
    }
    return Result(**(fields | changed))
