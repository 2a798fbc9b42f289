"""Compiles a loop: several seeds by `vmap`, several devices by shardings at jit's boundary."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpolicy import ranges, sharding, types
from jaxpolicy.runs import kinds

PyTree = Any


class Program(NamedTuple):
    """The compiled functions that training calls.

    init() -> LoopState.
    step(LoopState, data) -> (LoopState, metrics); the state that is passed in is donated.
    template: a LoopState of ShapeDtypeStructs, with shardings where there are several devices.
    jitted: the functions inside `init` and `step` that `compiling` may compile ahead, by name;
      'init' takes `first`, 'step' what `step` takes. Empty where there are several programs.
    first: what 'init' takes: the seeds, and before them the numbers of several settings.

    With several seeds every leaf of the state and every metric has a leading axis [S].
    """

    init: Callable[[], types.LoopState]
    step: Callable[[types.LoopState, PyTree], tuple[types.LoopState, types.Metrics]]
    template: types.LoopState
    jitted: dict[str, Any] = {}  # noqa: RUF012 (nothing writes to it)
    first: tuple[Any, ...] = ()


def seeds(seed: int, num_seeds: int) -> np.ndarray:
    """The seeds of a run: a number for one seed, [S] for several."""
    ranges.check_seeds('--seed', seed, num_seeds)
    found = np.arange(seed, seed + num_seeds, dtype=np.uint32)
    return found if num_seeds > 1 else found.reshape(())


def make(
    loop: types.Loop, seed: int, num_seeds: int, mesh: jax.sharding.Mesh | None = None
) -> Program:
    """The program of a loop; its functions are compiled when they are first called.

    Args:
      seed: the first seed; run i of several is the one that `seed + i` alone would give.
      num_seeds: how many runs are trained side by side in one program.
      mesh: of several devices, or None for one.

    Raises:
      ValueError: the environments do not divide over the devices.
    """

    def init(seed):
        return loop.init(jax.random.key(seed))

    first = seeds(seed, num_seeds)
    several = num_seeds > 1
    init = jax.vmap(init) if several else init
    step = jax.vmap(loop.step, in_axes=(0, None)) if several else loop.step
    shapes = jax.eval_shape(init, first)
    check_memory(shapes, 1 if mesh is None else mesh.size)
    if mesh is None:
        init_fn, step_fn = jax.jit(init), jax.jit(step, donate_argnums=0)
        jitted = {'init': init_fn, 'step': step_fn}
        return Program(lambda: init_fn(first), step_fn, shapes, jitted, (first,))
    where = shardings(mesh, shapes, several)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    init_fn = jax.jit(init, out_shardings=where)
    step_fn = jax.jit(step, donate_argnums=0, out_shardings=(where, everywhere))
    template = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where
    )
    jitted = {'init': init_fn, 'step': step_fn}
    return Program(lambda: init_fn(first), step_fn, template, jitted, (first,))


def of_settings(
    run: kinds.Run, numbers: Mapping[str, np.ndarray], seed: int, num_seeds: int
) -> Program:
    """The program of several settings of a run, whose agents differ in numbers alone.

    What `run.data` is for one setting, the pair (numbers, run.data) is here. Every leaf of the
    state and every metric leads with [K], or with [K, S] where there are several seeds.

    Args:
      numbers: fields of the config's group `agent`, and the value of each setting, float32 [K].
      seed, num_seeds: as in `make`; they are the same for all settings.

    Raises:
      ValueError: the run's settings cannot share a program.
      jax.errors.JAXTypeError: the program depends on one of the numbers.
    """
    if run.loop_of is None:
        raise ValueError('expected a run whose settings can share a program')
    loop_of = run.loop_of

    def init(numbers, seed):
        return loop_of(numbers).init(jax.random.key(seed))

    def step(state, data):
        numbers, data = data
        one = loop_of(numbers).step
        return (jax.vmap(one, in_axes=(0, None)) if num_seeds > 1 else one)(state, data)

    init = jax.vmap(init, in_axes=(None, 0)) if num_seeds > 1 else init
    init = jax.vmap(init, in_axes=(0, None))
    step_fn = jax.jit(jax.vmap(step, in_axes=(0, (0, None))), donate_argnums=0)
    first = (dict(numbers), seeds(seed, num_seeds))
    init_fn, shapes = jax.jit(init), jax.eval_shape(init, *first)
    check_memory(shapes, 1)
    jitted = {'init': init_fn, 'step': step_fn}
    return Program(lambda: init_fn(*first), step_fn, shapes, jitted, first)


def of_run(
    run: kinds.Run,
    seed: int,
    num_seeds: int,
    mesh: jax.sharding.Mesh | None,
    is_new: bool = True,
) -> Program:
    """The program of a run.

    Args:
      run, seed, num_seeds, mesh: as in `make`.
      is_new: whether its first state will be asked for; what `run.begin` takes is then opened here.

    Raises:
      ValueError: what the run begins with does not fit.
      ValueError: a buffer on the host is to serve several seeds or devices; or as in `make`.
    """
    if run.traced and (num_seeds > 1 or mesh):
        raise ValueError(
            "config.loop.buffer_on: expected 'device' for several seeds or devices, found 'host'"
        )
    if run.traced:
        program = on_host(run.loop, run.traced, seed)
    else:
        program = make(run.loop, seed, num_seeds, mesh)
    if run.begin and is_new:
        begin, init = run.begin(num_seeds), program.init
        return program._replace(init=lambda: begin(init()))
    return program


def check_memory(state: types.LoopState, num_devices: int, device: Any = None) -> None:
    """Checks that the state alone fits the devices; what an update needs besides is not known here.

    Args:
      state: its shapes.
      device: one of the devices, by default the first one.

    Raises:
      ValueError: it does not fit.
    """
    parts = {
        'config.agent': state.train,
        'config.loop.num_envs': state.env,
        'config.loop.buffer_size, config.loop.num_envs': state.memory,
    }
    sizes = {key: sharding.num_bytes(part) for key, part in parts.items()}
    limit = sharding.memory(device or jax.devices()[0], num_devices)
    if limit and sum(sizes.values()) > limit:
        largest = max(sizes, key=lambda key: sizes[key])
        raise ValueError(
            f'{largest}: expected a state of at most {limit / 1e9:.1f} GB, the memory there is, '
            f'found {sum(sizes.values()) / 1e9:.1f} GB, of which {sizes[largest] / 1e9:.1f} GB are '
            'its own'
        )


def on_host(loop: types.Loop, traced: types.Loop, seed: int) -> Program:
    """The program of a loop that keeps its memory on the host, for one seed and one device.

    Args:
      loop: Python functions that call compiled programs.
      traced: the same loop as one program, for the shapes.
    """
    key = jax.random.key(seed)
    shapes, host = jax.eval_shape(traced.init, key), jax.devices('cpu')[0]
    check_memory(shapes, 1, host)
    there = jax.sharding.SingleDeviceSharding(host)
    memory = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), shapes.memory
    )
    return Program(lambda: loop.init(key), loop.step, shapes.replace(memory=memory))


def shardings(mesh: jax.sharding.Mesh, state: types.LoopState, several_seeds: bool) -> PyTree:
    """Shardings of a state: environments and memory are cut along [N], the rest is everywhere."""
    cut = sharding.shard_leading(mesh, (state.env, state.memory), axis=int(several_seeds))
    return types.LoopState(
        train=sharding.replicate(mesh, state.train),
        env=cut[0],
        key=sharding.replicate(mesh, state.key),
        memory=cut[1],
    )
