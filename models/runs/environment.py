"""What a measured number depends on besides the code."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Versions and machine, ready for JSON.

    Returns:
        Versions of what computes (None where it is not installed), the machine, and
        the device JAX computes on.
    """
    import jax

    affinity = getattr(os, "sched_getaffinity", None)  # fewer than all, in a container
    names = ("jax", "jaxlib", "flax", "optax", "tensorstore", "numpy", "torch")
    return {
        "versions": {name: version(name) for name in ("stgnn-sensitivity", *names)},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }


def version(name: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
