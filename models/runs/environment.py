"""What a measured number depends on besides the code."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("stgnn-sensitivity", "jax", "jaxlib", "flax", "optax", "tensorstore", "numpy"),
    "torch",
)


def environment(packages: Sequence[str] = _PACKAGES) -> dict[str, Any]:
    """Versions and machine, ready for JSON.

    Args:
        packages: Whose versions.

    Returns:
        Versions of what computes (None where it is not installed), the machine, and
        the device JAX computes on.
    """
    import jax

    return {
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": processor("model name"),
        "cores": cores(),
        "device": jax.devices()[0].device_kind,
    }


def cores() -> int:
    """How many cores this process may use: fewer than all, in a container."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def show_devices(count: int) -> None:
    """Let a CPU show so many devices to JAX, which reads that when it starts.

    Args:
        count: How many; a number that the user has set stays.
    """
    name, flags = "--xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS")
    if name not in (flags or ""):
        words = [*filter(None, [flags]), f"{name}={count}"]
        os.environ["XLA_FLAGS"] = " ".join(words)


def version(name: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor(name: str) -> str:
    """What Linux says of the first core, such as its ``"flags"``; else its name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return platform.processor()
