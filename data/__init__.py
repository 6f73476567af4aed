"""Where traffic series come from: METR-LA files read safely, and windows of them."""

from data.metr_la import load_metr_la
from data.series import TrafficSeries
from data.windows import WindowSample, draw_windows

__all__ = ["TrafficSeries", "WindowSample", "draw_windows", "load_metr_la"]
