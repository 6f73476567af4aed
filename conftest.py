"""Everything is checked in float64, the same in every run, and without a screen."""

import atexit
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

import hypothesis
import jax
import pytest

os.environ["MPLBACKEND"] = "Agg"  # read when matplotlib is first imported, if it is
jax.config.update("jax_enable_x64", True)

# The older of XLA's two ways to write loops, and no optimisations by LLVM: 0.9 s of a
# core in place of 3.9 s for a program of `sensitivity`. It runs 1.5 times as long on 64
# steps, and 3 to 5 times as long on thousands.
# A jaxlib without that option would abort at it.
_QUICK, _JAXLIB = "--xla_backend_optimization_level=0", version("jaxlib")
if _JAXLIB.startswith("0.10."):
    _QUICK += " --xla_cpu_use_fusion_emitters=false"

# Its example needs PyTorch, which is an extra.
collect_ignore = [] if find_spec("torch") else ["sensitivity/torch_capture.py"]

# No deadline: the first example compiles. Derandomised: a failure fails everywhere.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    """Give commands a cache folder of this session; compile the quick tests quickly.

    All tests together, and the slow ones, run what users run. The flags are read when
    jax first computes.
    """
    if not hasattr(config, "workerinput"):  # workers have it from who starts them
        os.environ["XDG_CACHE_HOME"] = caches = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, caches, ignore_errors=True)
    if config.getoption("markexpr") == "not slow":
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} {_QUICK}".strip()


# A compiled program takes 20 to 60 mappings of memory, of which Linux allows a process
# 65,530: at the next one XLA dies of a segmentation fault.
_MAPPINGS = 20_000


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Let go of compiled programs between files where the process holds many."""
    if nextitem is None or nextitem.path != item.path:
        try:
            with open("/proc/self/maps") as maps:
                many = sum(1 for _ in maps) > _MAPPINGS
        except OSError:  # another system, with another limit
            return
        if many:
            jax.clear_caches()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> jax.Array:
    """A PRNG key of its own for each test, from its name, the same in every run."""
    return jax.random.key(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="module")
def strict_promotion() -> Iterator[None]:
    """Silent promotion of dtypes is an error in the rest of this module.

    For the tests of ``sensitivity`` only (optax raises under it), by
    ``pytestmark = pytest.mark.usefixtures("strict_promotion")``. It has the scope of a
    module because hypothesis refuses fixtures that it cannot renew for each example.

    Yields:
        Nothing: the rules hold until the module is done.
    """
    with jax.numpy_dtype_promotion("strict"):
        yield
