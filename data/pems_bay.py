"""PEMS-BAY as the community passes it around, read as untrusted input like METR-LA."""

from pathlib import Path

from data.community import PEMS_BAY, load_benchmark
from data.series import TrafficSeries


def load_pems_bay(folder: str | Path) -> TrafficSeries:
    """Load PEMS-BAY: speeds on the highways of the San Francisco Bay Area.

    ============  ==================================================================
    Steps T       52,116, from 2017-01-01 00:00 to 2017-06-30 23:55, local time: 181
                  days of 288 steps, less the 12 of the hour that summer time skips
    Nodes N       325 sensors of Caltrans' performance measurement system
    Rate          one reading per 5 minutes, mph
    Missing       stored as 0 (or NaN); almost nothing
    Adjacency     Gaussian kernel of road distance, thresholded; not symmetric
    Paper         Li et al. 2018
    ============  ==================================================================

    A file with fewer sensors or steps in the same layout loads just as well. Nothing
    stands in for the hour skipped: the windows that reach across it hold 12 steps as
    any other, but span an hour more.

    Args:
        folder: Folder with ``pems-bay.h5`` (a pandas frame in fixed format under key
            ``speed``: one column per sensor id, integers or strings, one row per step)
            and, optionally, ``adj_mx_bay.pkl`` (DCRNN's list of sensor ids, id-to-index
            dict and adjacency). Or the path of the ``.h5`` file itself; the adjacency
            is then looked for beside it.

    Returns:
        The series, sensor ids as strings. Missing readings are 0 in ``values``, never
        NaN.

    Raises:
        FileNotFoundError: If there is no ``.h5`` file.
        ValueError: If a file is truncated, of another layout, asks to run anything, or
            the adjacency is of other sensors; the message names the file.

    References:
        Li, Yu, Shahabi, Liu, `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, ICLR 2018.
    """
    return load_benchmark(folder, PEMS_BAY)
