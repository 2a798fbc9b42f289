"""The jobs of a sweep: which command trains a group of runs, or evaluates what one has trained."""

from collections.abc import Sequence
from pathlib import Path

from jaxpolicy.io import wandb_tracker
from jaxpolicy.sweeps import acting, engine, plan


def of(folder: Path, group: Sequence[plan.Planned], flags: Sequence[str]) -> engine.Job:
    """The job of a group: runs that share a program, or one that trains or acts.

    Its log is in the workdir of the first run.

    Args:
      folder: of the sweep.
      flags: more flags of the command.
    """
    first = group[0]
    place = folder / first.workdir
    if first.trained_by:
        evaluates = [flag for flag in flags if not flag.startswith('--wandb_')]
        return engine.Job([*acting.arguments(folder, first), *evaluates], place)
    if group[1:]:
        runs = ','.join(run.identity for run in group)
        command = ['train_together', f'--workdir={folder}', f'--runs={runs}']
        return engine.Job([*command, *flags], place)
    changes = [f'--config.{key}={text}' for key, text in first.overrides]
    seeds = [f'--seed={first.seeds[0]}', f'--num_seeds={len(first.seeds)}']
    config = [f'--config={first.recipe}', *changes, f'--workdir={place}']
    named = wandb_tracker.flags_of_run(flags, plan.title(first))
    return engine.Job(['train', *config, *seeds, '--num_devices=1', *flags, *named], place)


def log_of(folder: Path, group: Sequence[plan.Planned]) -> Path:
    """The file that has what the job of a group printed."""
    return folder / group[0].workdir / engine.LOG
