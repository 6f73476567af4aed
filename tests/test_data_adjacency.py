"""A sensor graph is read from each kind of file, in the order of the series."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import load_file, read_adjacency
from tests.data_files import IDS, WEIGHTS, write, write_graph

TABLES = {
    "numbers only": "1,0.5,0\n0.25,1,0\n0,0.125,1\n",
    "ids above": "717447,773869,767541\n1,0,0.125\n0,1,0.5\n0,0.25,1\n",
    "ids before": "717447,1,0,0.125\n773869,0,1,0.5\n767541,0,0.25,1\n",
    "both": ",767541,773869,717447\n"
    "773869,0.5,1,0\n767541,1,0.25,0\n717447,0.125,0,1\n",
    "edges": "from,to,weight\n773869,767541,0.5\n767541,773869,0.25\n"
    "717447,767541,0.125\n773869,773869,1\n767541,767541,1\n717447,717447,1\n",
    "edges in other columns": "cost,To,weight,From\n9,767541,0.5,773869\n"
    "9,773869,0.25,767541\n9,767541,0.125,717447\n,773869,1,773869\n"
    ",767541,1,767541\n,717447,1,717447\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_a_csv_file_gives_the_graph_in_the_order_of_the_series(tmp_path, case):
    (tmp_path / "graph.csv").write_text(TABLES[case])
    np.testing.assert_array_equal(read_adjacency(tmp_path / "graph.csv", IDS), WEIGHTS)


@pytest.mark.parametrize("dtype", [">f8", "f4", "f2", "i8", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_file_gives_the_graph(tmp_path, dtype, order):
    np.save(tmp_path / "graph.npy", np.asarray(8 * WEIGHTS, dtype=dtype, order=order))
    weights = read_adjacency(str(tmp_path / "graph.npy"), IDS)
    np.testing.assert_array_equal(weights, 8 * WEIGHTS)
    assert weights.dtype == np.float64


def test_a_pickle_gives_the_graph_whatever_its_name(tmp_path):
    path = write_graph(tmp_path, ids=IDS).rename(tmp_path / "graph.pickle")
    np.testing.assert_array_equal(read_adjacency(path, IDS), WEIGHTS)


def test_a_sensor_without_edges_has_a_row_and_a_column_of_zeros(tmp_path):
    (tmp_path / "graph.csv").write_text("from,to,weight\nb,a,0.5\n")
    weights = read_adjacency(tmp_path / "graph.csv", ["a", "b", "c"])
    assert weights.tolist() == [[0, 0, 0], [0.5, 0, 0], [0, 0, 0]]


@given(st.permutations(range(4)), st.permutations(range(4)), st.integers(0, 9))
def test_no_order_of_rows_and_columns_changes_the_graph(
    tmp_path_factory, rows, columns, seed
):
    ids = [f"sensor {k}" for k in range(4)]
    weights = np.random.default_rng(seed).random((4, 4))
    text = io.StringIO()
    print("", *(ids[k] for k in columns), sep=",", file=text)
    for k in rows:
        print(ids[k], *(weights[k, j] for j in columns), sep=",", file=text)
    path = tmp_path_factory.getbasetemp() / "graph.csv"
    path.write_text(text.getvalue())
    np.testing.assert_array_equal(read_adjacency(path, ids), weights)


BAD = {
    "nothing": ("", "must not be empty"),
    "another size": ("1,0\n0,1\n", "3 rows and columns, .* got 2 rows and 2 columns"),
    "too many rows": ("1,0,0\n" * 5, "got 5 rows and 3 columns"),
    "a ragged row": ("1,0,0\n0,1\n0,0,1\n", "line 2 must have the 3 cells .* got 2"),
    "a word": ("1,0,0\n0,x,0\n0,0,1\n", "line 2, column '767541': 'x' is no number"),
    "an empty cell": ("1,0,0\n0,,0\n0,0,1\n", "got nan from '767541' to '767541'"),
    "infinity": ("1,0,0\n0,1,inf\n0,0,1\n", "got inf from '767541' to '717447'"),
    "below 0": ("1,0,0\n0,1,0\n0,-1,1\n", r"got -1\.0 from '717447' to '767541'"),
    "other ids": (
        "773869,767541,b\n1,0,0\n0,1,0\n0,0,1\n",
        "only the adjacency has 'b', only the series has '717447'",
    ),
    "one id twice": (
        "773869,767541,767541\n1,0,0\n0,1,0\n0,0,1\n",
        "must differ, but one occurs twice",
    ),
    "two lists of ids": (
        ",773869,767541,a\n773869,1,0,0\n767541,0,1,0\nb,0,0,1\n",
        "ids of its rows and of its columns must be the same",
    ),
    "an edge twice": (
        "from,to,weight\n773869,767541,1\n773869,767541,2\n",
        r"line 3 repeats the edge \('773869', '767541'\)",
    ),
    "an edge to elsewhere": (
        "from,to,weight\n773869,a,1\n",
        "only the adjacency has 'a', only the series has none",
    ),
    "distances": ("from,to,cost\n773869,767541,310.6\n", "'weight', .* a distance or"),
    "an edge without a weight": (
        "from,to,weight\n773869,767541,\n",
        "got nan from '773869' to '767541'",
    ),
    "half an edge": ("from,to,weight\n773869,767541\n", "line 2 must have the 3 cells"),
    "a heavy word": (
        "from,to,weight\n773869,767541,far\n",
        "line 2, column 'weight': 'far' is no number",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_csv_file_that_is_no_graph_of_the_series_is_refused(tmp_path, case):
    content, rule = BAD[case]
    (tmp_path / "graph.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"graph\.csv.*{rule}"):
        read_adjacency(tmp_path / "graph.csv", IDS)


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (np.eye(2), r"shape \(3, 3\), got float64 of shape \(2, 2\)"),
        (np.ones((3, 4)), r"got float64 of shape \(3, 4\)"),
        (-np.eye(3), r"not negative, got -1\.0 from '773869' to '773869'"),
        (np.full((3, 3), np.nan), "got nan from '773869' to '773869'"),
        (np.array([["a"] * 3] * 3), "must hold numbers, got <U1"),
        (np.array([[1, "a"]], dtype=object), "must hold numbers, got object"),
    ],
)
def test_an_npy_file_that_is_no_graph_of_the_series_is_refused(tmp_path, array, rule):
    np.save(tmp_path / "graph.npy", array)
    with pytest.raises(ValueError, match=rf"graph\.npy.*{rule}"):
        read_adjacency(tmp_path / "graph.npy", IDS)


def test_a_graph_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    path = write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"graph\.npy does not exist: adjac"):
        load_file(path, tmp_path / "graph.npy")
    with pytest.raises(ValueError, match=r"metr-la\.h5: adjacency must be .* '\.h5'"):
        load_file(path, path)
