"""Small METR-LA files to read, good and hostile."""

import os
import pickle
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pandas as pd
import pytest

from data import TrafficSeries

IDS = ["773869", "767541", "717447"]
WEIGHTS = np.array([[1, 0.5, 0], [0.25, 1, 0], [0, 0.125, 1]])


def frame(
    columns=IDS,
    unit: Literal["s", "ms", "us", "ns"] = "ns",
    dtype=np.float64,
    steps=6,
    **options,
):
    """A frame of readings that differ."""
    index = pd.date_range("2012-03-01", periods=steps, freq="5min", **options)
    values = 10.0 + np.arange(steps * len(columns)).reshape(steps, -1)
    return pd.DataFrame(
        values.astype(dtype), index=index.as_unit(unit), columns=columns
    )


def write(folder: Path, table=None, **options) -> Path:
    """Write a frame as the community does."""
    path = folder / "metr-la.h5"
    table = frame() if table is None else table
    table.to_hdf(path, key="df", mode="w", format="fixed", **options)
    return path


def write_graph(folder: Path, content: object = None, protocol=2, ids=IDS) -> Path:
    """Write an adjacency, other content, or raw bytes."""
    path = folder / "adj_mx.pkl"
    if content is None:
        content = [ids, {name: k for k, name in enumerate(ids)}, WEIGHTS]
    raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
    path.write_bytes(raw)
    return path


def series(values=None, missing=None, **changes):
    """A series of two sensors, one reading missing."""
    values = (
        np.array([[40.0, 1], [60, 2], [0, 3], [50, 4]]) if values is None else values
    )
    missing = values == 0 if missing is None else missing
    parts = {
        "values": values,
        "missing": missing,
        "time": pd.date_range("2012-03-01", periods=len(values), freq="5min"),
        "sensor_ids": ("a", "b"),
        "name": "tiny",
    }
    return TrafficSeries(**(parts | changes))


def real(name: str) -> Path:
    """A folder of the real files, or skip."""
    root = os.environ.get("SENSITIVITY_DATA")
    if not root:
        pytest.skip("SENSITIVITY_DATA is not set: no folder with the METR-LA files")
    return Path(root) / name


class Touch:
    """Pickles to a call that makes a file: if it exists, a loader ran it."""

    def __init__(self, marker: Path, call=os.mkdir):
        self.marker, self.call = marker, call

    def __reduce__(self):
        """Ask the reader of the pickle to call."""
        return self.call, (str(self.marker),)


def array(file: h5py.File, place: str) -> h5py.Dataset:
    """A data set of the file, to be changed."""
    node = file[place]
    assert isinstance(node, h5py.Dataset)
    return node
