"""Latency of diffusion sampling: python -m experiments.bench.sampling --network=unet_large

Times one plan: To observations of Push-T's keypoints in, a chunk of Tp = 16 actions out, compiled
ahead of time, for every combination of the lists --network, --sampler, --steps, --batch and
--dtype. `unet_large` is the U-Net of Diffusion Policy's paper. `--peer=diffusers` runs the same
U-Net with the same weights in PyTorch, with the scheduler of diffusers, eager and torch.compile,
call by call in turns with ours (`pip install 'jaxpolicy[bench]'`).

Columns: compile_s without a cache on disk; p50_ms, p95_ms, p99_ms of single calls; actions_per_s =
Tp * batch / p50; network_ms, p50 over network evaluations; memory_ms, reading the weights once for
each evaluation at the bandwidth measured here; flops_ms, the network's operations at the rate of
square matrix products measured here; over_limit, p50 over the larger of the two. --out writes a
list of rows as JSON, --plot a picture.
"""

import itertools
from pathlib import Path

import jax
from absl import flags

from jaxpolicy.io import flags as config_flags
from jaxpolicy.io import latency, paths

from . import peers
from . import sampling_parts as parts

FLAGS = flags.FLAGS
PEERS = ('diffusers',)


def runners_of(case: parts.Case, built: parts.Built) -> dict[str, parts.Runner]:
    """Who plans, by name: ours first, then the same plan in PyTorch if a peer is asked for."""
    ours = {'jaxpolicy': built.runner}
    return ours | (peers.load(FLAGS.peer, PEERS).runners(case, built) if FLAGS.peer else {})


def measure(case: parts.Case, limits: parts.Limits) -> list[dict]:
    """The rows of one case, ours first."""
    built = parts.build(case)
    runners = runners_of(case, built)
    times = latency.alternating({name: r.call for name, r in runners.items()}, FLAGS.seconds)
    rows = [parts.row(name, case, built, runners[name], times[name], limits) for name in runners]
    for row in rows:
        row['peer_over_ours'] = row['p50_ms'] / rows[0]['p50_ms']
    return rows


def show(row: dict) -> None:
    """Prints a line."""
    what = f'{row["network"]} {row["sampler"]}-{row["steps"]} {row["dtype"]} batch {row["batch"]}'
    print(
        f'{row["who"]:14s} {what:44s} p50 {row["p50_ms"]:9.2f}  p95 {row["p95_ms"]:9.2f}  '
        f'p99 {row["p99_ms"]:9.2f} ms   {row["over_limit"]:6.2f} x limit   '
        f'{row["peer_over_ours"]:5.2f} x ours   compile {row["compile_s"]:5.1f} s',
        flush=True,
    )


def main(_):
    jax.config.update('jax_enable_compilation_cache', False)
    rows = []
    peers.check(FLAGS.peer, PEERS)
    steps, batches = parts.numbers('steps', FLAGS.steps), parts.numbers('batch', FLAGS.batch)
    grid = itertools.product(FLAGS.network, FLAGS.sampler, steps, batches, FLAGS.dtype)
    cases = [parts.Case(*values) for values in grid]
    if not cases:
        raise ValueError('expected at least one case, found an empty list')
    for case in cases:
        parts.check(case)
    limits = parts.measure_limits()
    print(
        f'{jax.devices()[0].device_kind}: {limits.bytes_per_s / 1e9:.0f} GB/s, '
        f'{limits.flops_per_s / 1e9:.0f} GFLOP/s'
    )
    for case in cases:
        found = measure(case, limits)
        rows += found
        for row in found:
            show(row)
        if FLAGS.out:
            paths.write_json(FLAGS.out, rows)
    if FLAGS.plot:
        parts.plot(rows, Path(FLAGS.plot))


if __name__ == '__main__':
    flags.DEFINE_list('network', ['unet_large'], f'Some of {sorted(parts.NETWORKS)}.')
    flags.DEFINE_list('sampler', ['ddim'], 'Names of jaxpolicy.diffusion.samplers.')
    flags.DEFINE_list('steps', ['10'], 'Sampling steps.')
    flags.DEFINE_list('batch', ['1', '64'], 'Robots that are planned for at once.')
    flags.DEFINE_list('dtype', ['float32'], 'Of the network: float32, bfloat16.')
    flags.DEFINE_string('peer', '', f'One of {PEERS}: timed beside ours.')
    flags.DEFINE_float('seconds', 3.0, 'To measure each, at least 20 calls.', lower_bound=0.0)
    config_flags.define_output('out', None, 'Write the rows to this JSON file.')
    pictures = paths.PICTURES
    config_flags.define_output('plot', None, 'Draw them into this file.', suffixes=pictures)
    config_flags.run_main(main)
