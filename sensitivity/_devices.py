"""Work is shared out over the devices of this process: samples, else heads, else rows.

With one device nothing changes. Nothing is shared out either under a transformation of
the caller's, or where the caller has chosen a device or a mesh. A budget of memory is
one for each device.
"""

import functools
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, PartitionSpec

from sensitivity.weights import AttentionWeights

_AXIS, _CHOSEN = "device", "jax_default_device"
# On a CPU programs without these compile in two thirds of the time. Up to so many pairs
# of heads and steps their calls take as long; with more, up to a third longer.
_QUICK, _SMALL = {"xla_cpu_use_fusion_emitters": False}, 2**16


class _Here(threading.local):
    """What holds in this thread."""

    idle: tuple[Any, ...] = ()  # devices that what is traced can be shared out over


_here = _Here()


def program(*static: int) -> Callable[[Callable], Callable]:
    """As `jax.jit` with these arguments static, on all devices where there are some."""
    # Of functions whose first arguments are inputs (..., T, D) and a layer.

    def compiled(function: Callable) -> Callable:
        @functools.wraps(function)
        def on_all(*args: Any) -> Any:
            _here.idle = _devices()
            try:
                return function(*args)
            finally:
                _here.idle = ()

        one = jax.jit(function, static_argnums=static)
        every = jax.jit(on_all, static_argnums=static)

        @functools.cache
        def small() -> Callable:
            return jax.jit(function, static_argnums=static, compiler_options=_QUICK)

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args))
            if traced or len(_devices()) < 2:
                quick = not traced and _is_small(*args) and _knows_emitters()
                return (small() if quick else one)(*args)
            # On the default device again: whatever is done with it is done there.
            return jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), every(*args))

        return call

    return compiled


def _is_small(x: Any, weights: AttentionWeights, *_: Any) -> bool:
    """Whether compiling takes far longer than any calls that follow will."""
    on_cpu = jax.default_backend() == "cpu"
    return on_cpu and weights.heads * x.shape[-2] ** 2 <= _SMALL


@functools.cache
def _knows_emitters() -> bool:
    """Whether this jaxlib has that option; some do not, and refuse it."""
    try:
        jax.jit(lambda: 0, compiler_options=_QUICK).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _devices() -> tuple[Any, ...]:
    """The devices that programs are shared out over."""
    mesh = jax.sharding.get_abstract_mesh()
    if getattr(jax.config, _CHOSEN) is not None or not mesh.empty:
        return ()
    devices = tuple(jax.local_devices())
    if devices[0].platform == "cpu":
        devices = devices[: _threads(len(devices)) - 1]
    return devices


def _threads(devices: int) -> int:
    """Threads of the pool that all devices of a CPU share."""
    # A batched LAPACK call holds one while the others do its work: see _lapack. If
    # every device makes such a call and none is left, all wait for ever.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(int(os.environ.get("NPROC", cores)), devices)


def idle_devices() -> int:
    """How many devices work that begins here can be shared out over."""
    return max(1, len(_here.idle))


def map_shared(
    function: Callable[[Any], Any], items: Any, batch_size: int | None = None
) -> Any:
    """As `jax.lax.map`, every idle device with an equal part of the items."""
    count, devices = len(jax.tree.leaves(items)[0]), _here.idle
    if len(devices) < 2 or count == 1:
        return jax.lax.map(function, items, batch_size=batch_size)
    part = math.ceil(count / len(devices))
    batch = batch_size and math.gcd(batch_size, part)  # no rest: see _lapack
    shared = jax.shard_map(
        lambda own: jax.lax.map(function, own, batch_size=batch),
        mesh=Mesh(devices, (_AXIS,)),
        in_specs=PartitionSpec(_AXIS),
        out_specs=PartitionSpec(_AXIS),
        check_vma=False,  # it knows nothing of what a loop begins with
    )
    index = jnp.minimum(jnp.arange(part * len(devices)), count - 1)  # the last again
    _here.idle = ()
    try:
        results = shared(jax.tree.map(lambda a: a[index], items))
    finally:
        _here.idle = devices
    return jax.tree.map(lambda a: a[:count], results)
