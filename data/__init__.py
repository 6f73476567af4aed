"""Where traffic series come from: files read safely, and windows to train on."""

from data.adjacency import read_adjacency
from data.dataset import Batch, Prepared, WindowedSeries, gather, prepare
from data.files import load_dataset, load_file, load_metr_la, load_pems_bay
from data.scaler import Scaler
from data.series import TrafficSeries
from data.splits import Split, split_windows, training_rows
from data.time_of_week import TimeOfWeekAverage
from data.windows import WindowSample, draw_windows

__all__ = [
    "Batch",
    "Prepared",
    "Scaler",
    "Split",
    "TimeOfWeekAverage",
    "TrafficSeries",
    "WindowSample",
    "WindowedSeries",
    "draw_windows",
    "gather",
    "load_dataset",
    "load_file",
    "load_metr_la",
    "load_pems_bay",
    "prepare",
    "read_adjacency",
    "split_windows",
    "training_rows",
]
