"""What `experiments.bench.rl` reports: medians of runs and readings, ratios, the floor."""

import importlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from experiments.bench import floor as bench_floor
from experiments.bench import ours as bench_ours
from experiments.bench import race as bench_race
from jaxpolicy.io import workdir
from jaxpolicy.runs import build

PEERS = {'brax': 'experiments.bench.peers.brax_ppo'}


class Options(NamedTuple):
    """What is measured, besides the config."""

    peer: str = ''  # a name in PEERS, or nothing
    goal: bench_race.Goal = bench_race.Goal()
    seeds: int = 1  # training runs of each side
    repeats: int = 5  # epochs of each run, at least


def measure(config: config_dict.ConfigDict, options: Options) -> dict[str, Any]:
    """All figures, as the JSON has them."""
    sides: dict[str, Any] = {'ours': bench_ours}
    if options.peer:
        sides['peer'] = importlib.import_module(build.choose('peer', PEERS, options.peer))
    clocks = {f'raw {name}': side.raw(config) for name, side in sides.items()}
    clocks |= {'update': bench_ours.update(config), 'rates': bench_floor.clocks(config)}
    races, readings = [], {}
    for seed in range(options.seeds):
        records, found = bench_race.race(
            config, sides, seed, options.repeats, options.goal, {} if seed else clocks
        )
        races.append(records)
        readings |= found
    steps = bench_race.steps_per_epoch(config)
    result: dict[str, Any] = {
        name: figures(steps, [records[name] for records in races], readings[f'raw {name}'])
        for name in sides
    }
    peer = result.setdefault('peer', dict.fromkeys(result['ours']))
    result['ratio'] = {name: _ratio(result['ours'][name], peer[name]) for name in peer}
    result['ours'] |= floor(config, steps, result['ours'], readings)
    return result | {
        'config': config.to_dict(),
        'options': options._asdict() | {'goal': options.goal._asdict()},
        'not_equal': sides['peer'].DIFFERENCES if options.peer else (),
        'device': jax.local_devices()[0].device_kind,
        'versions': workdir.versions(),
    }


def figures(steps: int, races: list[bench_race.Record], raw: list[float]) -> dict[str, Any]:
    """What the JSON says of one side."""
    epoch_s = float(np.median(np.concatenate([record.epochs for record in races])))
    raw_s = float(np.median(raw))
    trained = [record.train_s for record in races]
    whole = [record.compile_s + record.train_s for record in races]
    return {
        'compile_s': float(np.median([record.compile_s for record in races])),
        'raw_steps_per_s': steps / raw_s,
        'train_steps_per_s': steps / epoch_s,
        'train_over_raw': raw_s / epoch_s,
        'peak_memory_mb': races[0].memory_mb,
        'seconds_to_threshold': _finite(np.median(whole)),
        'train_seconds_to_threshold': _finite(np.median(trained)),
        'train_seconds_by_seed': [_finite(s) for s in trained],
    }


def floor(config, steps: int, ours: dict[str, Any], readings: dict[str, list]) -> dict[str, float]:
    """The learner's share and the floor, all for one iteration (rollout and update)."""
    updates = config.loop.iterations_per_round
    iteration_s, raw_s = (
        steps / updates / ours[name] for name in ('train_steps_per_s', 'raw_steps_per_s')
    )
    update_s = float(np.median(readings['update'])) / updates
    rates = bench_floor.Rates(*np.median(np.array(readings['rates']), axis=0).tolist())
    flops = bench_floor.learner_flops(config, build.make_env(config).spec)
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
