"""METR-LA as the community passes it around, read as untrusted input.

Both files can carry code. ``metr-la.h5`` is first walked by ``data.safe_hdf``, with
h5py and its attributes only; what passes is read by ``data.fixed_frame``, with
PyTables. ``adj_mx.pkl`` goes through ``data.safe_pickle``, which can build lists,
dicts, strings, numbers and numeric arrays only.
"""

from pathlib import Path

from data.community import METR_LA, load_benchmark
from data.series import TrafficSeries


def load_metr_la(folder: str | Path) -> TrafficSeries:
    """Load METR-LA: speeds on the highways of Los Angeles County, from loop detectors.

    ============  ==================================================================
    Steps T       34,272, from 2012-03-01 00:00 to 2012-06-27 23:55, local time
    Nodes N       207 sensors; 1,722 non-zeros in the adjacency, self-loops included
    Rate          one reading per 5 minutes, mph
    Missing       stored as 0 (or NaN), about 8 % of the readings
    Adjacency     Gaussian kernel of road distance, thresholded; not symmetric
    Paper         Li et al. 2018 (the graph and the benchmark); Jagadish et al. 2014
                  (the readings)
    ============  ==================================================================

    A file with fewer sensors or steps in the same layout loads just as well.

    Args:
        folder: Folder with ``metr-la.h5`` (a pandas frame in fixed format under key
            ``df``: one column per sensor id, one row per step) and, optionally,
            ``adj_mx.pkl`` (DCRNN's list of sensor ids, id-to-index dict and adjacency;
            reordered where its sensors come in another order). Or the path of the
            ``.h5`` file itself; the adjacency is then looked for beside it.

    Returns:
        The series. Missing readings are 0 in ``values``, never NaN.

    Raises:
        FileNotFoundError: If there is no ``.h5`` file.
        ValueError: If a file is truncated, of another layout, asks to run anything, or
            the adjacency is of other sensors; the message names the file.

    References:
        Li, Yu, Shahabi, Liu, `Diffusion convolutional recurrent neural network
        <https://arxiv.org/abs/1707.01926>`_, ICLR 2018. Jagadish et al., `Big data and
        its technical challenges <https://doi.org/10.1145/2611567>`_, Communications of
        the ACM, 2014.
    """
    return load_benchmark(folder, METR_LA)
