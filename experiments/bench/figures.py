"""Computes what `experiments.bench.rl` reports: medians, ratios to the peer, and the floor."""

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from jaxpolicy.io import workdir
from jaxpolicy.runs import environment

from . import floor, ours, peers, race

PEERS = ('brax',)


class Options(NamedTuple):
    """What is measured, besides the config."""

    peer: str = ''  # one of PEERS (off-policy: replay.PEERS), or ''
    goal: race.Goal = race.Goal()
    seeds: int = 1  # training runs of each side
    repeats: int = 5  # rounds of each run, at least


def measure(config: config_dict.ConfigDict, options: Options) -> dict[str, Any]:
    """All figures, as the JSON has them."""
    race.check(config, options.goal)
    sides: dict[str, Any] = {'ours': ours}
    if options.peer:
        sides['peer'] = peers.load(options.peer, PEERS)
    clocks = {f'raw {name}': side.raw(config) for name, side in sides.items()}
    clocks |= {'update': ours.update(config), 'rates': floor.clocks(config)}
    races, readings = [], {}
    for seed in range(options.seeds):
        records, found = race.race(
            config, sides, seed, options.repeats, options.goal, {} if seed else clocks
        )
        races.append(records)
        readings |= found
    steps = race.steps_per_round(config)
    result: dict[str, Any] = {
        name: of_side(steps, [records[name] for records in races], readings[f'raw {name}'])
        for name in sides
    }
    peer = result.setdefault('peer', dict.fromkeys(result['ours']))
    result['ratio'] = {name: _ratio(result['ours'][name], peer[name]) for name in peer}
    result['ours'] |= of_floor(config, steps, result['ours'], readings)
    return result | {
        'config': config.to_dict(),
        'options': options._asdict() | {'goal': options.goal._asdict()},
        'not_equal': sides['peer'].DIFFERENCES if options.peer else (),
        'device': jax.local_devices()[0].device_kind,
        'versions': workdir.versions(),
    }


def of_side(steps: int, runs: list[race.Record], raw: list[float]) -> dict[str, Any]:
    """The figures of one side; `steps` is the number of environment steps in a round."""
    round_s = float(np.median(np.concatenate([record.rounds for record in runs])))
    raw_s = float(np.median(raw))
    trained = [record.train_s for record in runs]
    whole = [record.compile_s + record.train_s for record in runs]
    return {
        'compile_s': float(np.median([record.compile_s for record in runs])),
        'raw_steps_per_s': steps / raw_s,
        'train_steps_per_s': steps / round_s,
        'train_over_raw': raw_s / round_s,
        'peak_memory_mb': runs[0].memory_mb,
        'seconds_to_threshold': _finite(np.median(whole)),
        'train_seconds_to_threshold': _finite(np.median(trained)),
        'train_seconds_by_seed': [_finite(s) for s in trained],
    }


def of_floor(
    config, steps: int, found: dict[str, Any], readings: dict[str, list]
) -> dict[str, float]:
    """The learner's share and the floor, for one iteration (a rollout and its updates)."""
    iterations = config.loop.iterations_per_round
    iteration_s, raw_s = (
        steps / iterations / found[name] for name in ('train_steps_per_s', 'raw_steps_per_s')
    )
    update_s = float(np.median(readings['update'])) / iterations
    rates = floor.Rates(*np.median(np.array(readings['rates']), axis=0).tolist())
    flops = floor.learner_flops(config, environment.make_env(config).spec)
    floors = [raw_s + flops / rate for rate in rates]
    return {
        'iteration_s': iteration_s,
        'raw_s': raw_s,
        'update_s': update_s,
        'learner_share': update_s / iteration_s,
        'learner_gflop': flops / 1e9,
        'peak_gflop_per_s': rates.peak / 1e9,
        'shapes_gflop_per_s': rates.shapes / 1e9,
        'floor_s': floors[0],
        'floor_at_shapes_s': floors[1],
        'iteration_over_floor': iteration_s / floors[0],
        'iteration_over_floor_at_shapes': iteration_s / floors[1],
    }


def _finite(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def _ratio(ours: Any, peer: Any) -> float | None:
    return ours / peer if isinstance(ours, float) and isinstance(peer, float) and peer else None
