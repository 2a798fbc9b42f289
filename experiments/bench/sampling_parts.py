"""The cases, limits, rows and picture of `experiments.bench.sampling`."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from jaxpolicy import registry, types
from jaxpolicy.agents import diffusion_policy
from jaxpolicy.agents.parts import denoiser
from jaxpolicy.io import paths

from . import floor

NETWORKS: dict[str, dict[str, Any]] = {  # fields of the agent's Config
    'unet_large': {'network': 'unet1d', 'dims': (256, 512, 1024)},
    'unet_small': {'network': 'unet1d', 'dims': (64, 128, 256)},
    'transformer': {'network': 'transformer', 'width': 256, 'num_blocks': 8, 'num_heads': 4},
    'mlp': {'network': 'mlp', 'width': 512, 'num_blocks': 3},
}
DTYPES = ('float32', 'bfloat16')
OBS_DIM, ACTION_DIM = 20, 2  # Push-T's keypoints
SPEC = types.Spec(
    jax.ShapeDtypeStruct((OBS_DIM,), jnp.float32), jax.ShapeDtypeStruct((ACTION_DIM,), jnp.float32)
)


class Case(NamedTuple):
    """What is timed."""

    network: str
    sampler: str
    steps: int
    batch: int
    dtype: Any


class Runner(NamedTuple):
    """call(i) plans once and returns what to wait for."""

    call: Callable[[int], Any]
    compile_s: float
    peak_memory_mb: float | None  # None where nothing says so


class Built(NamedTuple):
    """Our side of a case."""

    config: diffusion_policy.Config
    params: Any
    obs: jax.Array  # [batch, To, D]
    runner: Runner
    num_params: int
    flops: float  # of one evaluation of the network
    num_evaluations: int  # of the network, for one plan


class Limits(NamedTuple):
    """What the machine can do."""

    bytes_per_s: float  # reading memory
    flops_per_s: float  # float32 matrix products


def numbers(name: str, texts: list[str]) -> list[int]:
    """Positive integers of a flag."""
    if any(not text.isdigit() or not int(text) for text in texts):
        raise ValueError(f'--{name}: expected positive integers, found {texts}')
    return [int(text) for text in texts]


def check(case: Case) -> None:
    """Raises a ValueError that names the flag whose part of the case is unknown."""
    for flag, value, known in (('network', case.network, NETWORKS), ('dtype', case.dtype, DTYPES)):
        if value not in known:
            raise ValueError(f'--{flag}: expected some of {sorted(known)}, found {value!r}')
    registry.resolve('samplers', case.sampler, '--sampler')
    diffusion_policy.make(make_config(case), SPEC)


def make_config(case: Case) -> diffusion_policy.Config:
    """Diffusion Policy's recipe with the case's network and sampler."""
    return diffusion_policy.Config(
        **NETWORKS[case.network],
        sampler=case.sampler,
        num_sample_steps=case.steps,
        act_dtype=case.dtype,
    )


def build(case: Case) -> Built:
    """Builds our side of a case: random weights, and the plan compiled ahead of time."""
    config = make_config(case)
    agent = diffusion_policy.make(config, SPEC)
    train = jax.jit(lambda key: agent.init(key).replace(opt_state={}, params={}))(jax.random.key(0))
    train = jax.tree.map(_unlike_zero, train)
    shape = (case.batch, config.obs_horizon, OBS_DIM)
    obs = jax.random.uniform(jax.random.key(1), shape, minval=-1.0)
    keys = [jax.random.key(i) for i in range(8)]
    begin = time.perf_counter()

    def plan(train, obs, key):
        return agent.policy(train).act((), obs, key)[1]

    act = jax.jit(plan).lower(train, obs, keys[0]).compile()
    compile_s = time.perf_counter() - begin
    memory = act.memory_analysis()
    peak = memory and 1e-6 * (
        memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    )
    params = train.target_params['denoiser']
    runner = Runner(lambda i: act(train, obs, keys[i % 8]), compile_s, peak)
    return Built(
        config=config,
        params=params,
        obs=obs,
        runner=runner,
        num_params=sum(leaf.size for leaf in jax.tree.leaves(params)),
        flops=flops(config, params, case.batch),
        num_evaluations=diffusion_policy.num_evaluations(config),
    )


def _unlike_zero(x: jax.Array) -> jax.Array:
    """Some last layers begin at zero, and a product with zeros could be optimised away."""
    return x + 0.01 if jnp.issubdtype(x.dtype, jnp.floating) else x


def flops(config: denoiser.Config, params: Any, batch: int, spec: types.Spec = SPEC) -> float:
    """Operations of one evaluation of the network, as XLA counts them; observations are numbers."""
    net = denoiser.network(config)
    obs_size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(spec.obs))
    shapes = (
        (batch, config.pred_horizon, spec.action.shape[0]),
        (batch,),
        (batch, config.obs_horizon, obs_size),
    )
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    analysis = jax.jit(net.apply).lower(params, *inputs).cost_analysis()
    return float((analysis or {}).get('flops', np.nan))


def measure_limits() -> Limits:
    """Measures the bandwidth of reading 512 MB and the FLOP/s of square products, best of a few."""
    x = jnp.ones((128, 1024, 1024), jnp.float32)
    read = jax.jit(lambda x: jnp.sum(x, axis=(1, 2)))
    jax.block_until_ready(read(x))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(read(x))
        times.append(time.perf_counter() - begin)
    return Limits(x.nbytes / min(times), floor.square_rate())


def row(
    who: str, case: Case, built: Built, runner: Runner, times: np.ndarray, limits: Limits
) -> dict[str, Any]:
    """What the benchmark writes of one runner."""
    p50, p95, p99 = (float(x) for x in np.percentile(times, (50, 95, 99)))
    count = built.num_evaluations
    size = jnp.dtype(case.dtype).itemsize
    memory_ms = 1e3 * count * size * built.num_params / limits.bytes_per_s
    flops_ms = 1e3 * count * built.flops / limits.flops_per_s
    return {
        'who': who,
        **case._asdict(),
        'compile_s': runner.compile_s,
        'p50_ms': p50,
        'p95_ms': p95,
        'p99_ms': p99,
        'num_calls': len(times),
        'actions_per_s': 1e3 * built.config.pred_horizon * case.batch / p50,
        'network_ms': p50 / count,
        'peak_memory_mb': runner.peak_memory_mb,
        'num_params': built.num_params,
        'gflop': count * built.flops / 1e9,
        'memory_ms': memory_ms,
        'flops_ms': flops_ms,
        'over_limit': p50 / max(memory_ms, flops_ms),
        'device': jax.devices()[0].device_kind,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws p50 against the batch, with a line for each other combination, dashed for peers."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout='constrained')
    lines: dict[tuple, list[dict]] = {}
    for entry in rows:
        key = tuple(entry[k] for k in ('who', 'network', 'sampler', 'steps', 'dtype'))
        lines.setdefault(key, []).append(entry)
    for (who, network, sampler, steps, dtype), entries in lines.items():
        entries = sorted(entries, key=lambda entry: entry['batch'])
        axes.plot(
            [entry['batch'] for entry in entries],
            [entry['p50_ms'] for entry in entries],
            marker='o',
            linestyle='-' if who == 'jaxpolicy' else '--',
            label=f'{who}: {network} {sampler}-{steps} {dtype}',
        )
    axes.set_xscale('log', base=2)
    axes.set_yscale('log')
    axes.set_xlabel('robots planned for at once')
    axes.set_ylabel('milliseconds for a plan (p50)')
    axes.grid(alpha=0.3, which='both')
    axes.legend(fontsize=8)
    paths.write(path, lambda place: figure.savefig(place, dpi=120))
    plt.close(figure)
