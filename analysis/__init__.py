"""From results to understanding: benchmarks, plots and reports."""
