"""Compiled programs are kept for the next start of a command, in the user's folder."""

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.runs.environment import processor
from models.runs.folder import digest

_FOLDER = "jax_compilation_cache_dir"
_LIMIT = 2**30  # bytes: some thousand programs, the least used go first
_LEAST_SECONDS = 0.1  # what compiles faster is not worth a file


def programs_folder() -> Path:
    """Where compiled programs are kept: one folder for each kind of processor.

    A home that machines share would else hand a program to one that cannot run it.

    Returns:
        The folder; it may not be there yet.

    Raises:
        RuntimeError: If this user has no home.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        home = Path(named)
    elif sys.platform == "win32" and (named := os.environ.get("LOCALAPPDATA")):
        home = Path(named)
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path.home() / ".cache"
    kind = digest(platform.machine(), processor("model name"), processor("flags"))
    return home / "stgnn-sensitivity" / f"programs-{kind[:16]}"


@contextlib.contextmanager
def compiled_programs(kept: bool) -> Iterator[None]:
    """Keep what JAX compiles in the block, and take it from there the next time.

    Where JAX was told a folder of its own (``JAX_COMPILATION_CACHE_DIR``), that one is
    used as it is set.

    Args:
        kept: Whether to; otherwise nothing is kept and nothing taken.

    Yields:
        Nothing: JAX is as it was when the block is done.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {}
    if not kept:
        settings = {"jax_enable_compilation_cache": False}
    elif getattr(jax.config, _FOLDER) is None and (folder := _opened()):
        settings = {
            _FOLDER: str(folder),
            "jax_compilation_cache_max_size": _LIMIT,
            "jax_persistent_cache_min_compile_time_secs": _LEAST_SECONDS,
        }
    if not settings:
        yield
        return
    before = {name: getattr(jax.config, name) for name in settings}
    _set(settings)
    compilation_cache.reset_cache()  # JAX looks at the settings only once
    try:
        yield
    finally:
        _set(before)
        compilation_cache.reset_cache()


def _set(settings: dict) -> None:
    import jax

    for name, value in settings.items():
        jax.config.update(name, value)


def _opened() -> Path | None:
    """The folder, if it can be written."""
    where, why = "a cache folder", None
    try:
        where = folder = programs_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        why = error.strerror
    except RuntimeError as error:
        why = error
    print(f"note: compiled programs are not kept: {where}: {why}", file=sys.stderr)
    return None
