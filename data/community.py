"""A benchmark as the community passes it around: an ``.h5`` file, a graph beside it."""

from pathlib import Path
from typing import NamedTuple

from data.adjacency import read_adjacency
from data.hdf_file import read_hdf_frame
from data.readings import series_of_readings
from data.series import TrafficSeries


class Benchmark(NamedTuple):
    """What the files of a benchmark are called.

    Attributes:
        name: Short name of the data set.
        readings: File of the readings.
        graph: File of the adjacency.
    """

    name: str
    readings: str
    graph: str


METR_LA = Benchmark("metr-la", "metr-la.h5", "adj_mx.pkl")
PEMS_BAY = Benchmark("pems-bay", "pems-bay.h5", "adj_mx_bay.pkl")


def load_benchmark(
    folder: str | Path, benchmark: Benchmark, adjacency: str | Path | None = None
) -> TrafficSeries:
    """Load a benchmark's files, as untrusted input.

    Args:
        folder: Folder with the files, or the path of the ``.h5`` file.
        benchmark: What the files are called.
        adjacency: Another file of the adjacency than the one beside the ``.h5`` file.

    Returns:
        The series, its adjacency None if there is no file of it.

    Raises:
        FileNotFoundError: If there is no ``.h5`` file, or not the adjacency named.
        ValueError: If a file is refused; the message names it.
    """
    path = Path(folder)
    if path.is_dir():
        path = path / benchmark.readings
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: folder must be a folder with "
            f"{benchmark.readings!r}, or the path of that file."
        )
    frame = read_hdf_frame(path)
    graph = path.with_name(benchmark.graph) if adjacency is None else Path(adjacency)
    weights = None
    if adjacency is not None or graph.exists():
        weights = read_adjacency(graph, frame.columns)
    return series_of_readings(
        path,
        frame.values,
        frame.time,
        frame.columns,
        adjacency=weights,
        name=benchmark.name,
    )
