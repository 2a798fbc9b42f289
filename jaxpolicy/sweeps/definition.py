"""What a sweep is, as a recipe in configs/sweeps/ or the flags of the command define it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Recipes, the settings that each of them is trained with, and the seeds of each setting.

    recipes: paths or names of recipes, as `--config` takes them.
    overrides: changes of all runs: ('agent.gamma=0.9', 'eval.every=1').
    grid: the values of each key, every combination of which is a setting:
      'agent.learning_rate=1e-4,3e-4 agent.ema_power=0,0.75'. With `num_random`, keys may also have
      ranges (see `grid.draw`).
    settings: settings one by one instead of a grid: 'name: key=value key=value'.
    acting: a grid of what only matters for acting: 'agent.action_horizon=1,8'. What each setting
      trains is also evaluated with each combination, with its last checkpoint.
    num_random: how many settings are drawn at random from `grid`; 0: all combinations.
    sweep_seed: of what is drawn.
    seed, num_seeds: the first seed and their number; seeds of a setting are trained together.
    question: what the sweep is to answer, in words.
    expected: the answer that is expected, or was found.
    """

    recipes: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    grid: str = ''
    settings: tuple[str, ...] = ()
    acting: str = ''
    num_random: int = 0
    sweep_seed: int = 0
    seed: int = 0
    num_seeds: int = 1
    question: str = ''
    expected: str = ''
