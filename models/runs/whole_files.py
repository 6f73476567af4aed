"""Files that are there as a whole or not at all, whatever interrupts the writing."""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PART = ".part"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step.

    Args:
        path: The file; what was there stays until all of the new content is written.
        content: What it is to hold.

    Raises:
        OSError: If it cannot be written, for example because the disk is full.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "run.json"
        ...     write_whole(path, "{}")
        ...     path.read_text()
        '{}'
    """
    part = None
    try:
        handle, name = tempfile.mkstemp(PART, path.name + ".", path.parent)
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # mkstemp's are for the owner only
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        _sync_folder(path.parent)


_MOST_DOTS = 2400  # on a side of a picture


def figure_bytes(figure: "Figure", suffix: str, dpi: int = 200) -> bytes:
    """A picture as a file holds it, the same bytes for the same picture.

    Matplotlib's backend is that of the format, whatever the user's is: no display.

    Args:
        figure: The picture.
        suffix: Format of the file: ``"png"`` or ``"pdf"``.
        dpi: Dots per inch; fewer where a side would have more than 2,400.

    Returns:
        The content of the file.
    """
    buffer = io.BytesIO()
    dpi = min(dpi, int(_MOST_DOTS / max(figure.get_size_inches())))
    metadata = {"CreationDate": None} if suffix == "pdf" else None
    figure.savefig(buffer, format=suffix, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def _sync_folder(folder: Path) -> None:
    """Bring a folder's own entries to the disk, so that a new name survives too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # it cannot do that
            raise
    finally:
        os.close(handle)
