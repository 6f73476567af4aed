"""METR-LA files are read exactly; series and windows are what they say."""

import struct

import h5py
import numpy as np
import pandas as pd
import pytest

from data import draw_windows, load_metr_la
from tests.data_files import IDS, WEIGHTS, frame, real, series, write, write_graph

# --- the real files -----------------------------------------------------------------


def test_the_29_sensors_of_metr_la_load_as_described():
    loaded = load_metr_la(real("metr-la-29"))
    assert loaded.values.shape == (34272, 29)
    assert round(100 * loaded.missing.mean(), 2) == 7.75
    assert (loaded.values[loaded.missing] == 0).all()
    assert str(loaded.time[0]) == "2012-03-01 00:00:00"
    assert str(loaded.time[-1]) == "2012-06-27 23:55:00"
    assert loaded.adjacency is not None
    assert (np.diag(loaded.adjacency) == 1).all()


def test_the_real_file_agrees_with_pandas_to_the_last_bit():
    folder = real("metr-la-29")
    expected = pd.read_hdf(folder / "metr-la.h5", "df")
    assert isinstance(expected, pd.DataFrame)
    loaded = load_metr_la(folder)
    np.testing.assert_array_equal(loaded.values, expected.to_numpy())
    assert (loaded.time == expected.index).all()
    assert loaded.sensor_ids == tuple(expected.columns)


def test_the_python_2_graph_of_all_207_sensors_loads():
    loaded = load_metr_la(real("metr-la-207-week1"))
    assert loaded.values.shape == (2016, 207)
    assert loaded.adjacency is not None
    assert np.count_nonzero(loaded.adjacency) == 1722


def test_windows_of_the_real_series_are_standardised():
    loaded = load_metr_la(real("metr-la-29"))
    sample = draw_windows(loaded, 96, 200, np.random.default_rng(0))
    assert abs(sample.values.mean()) < 0.3
    assert 0.02 < sample.filled_share < 0.15


# --- layouts that must load ---------------------------------------------------------


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("columns", [IDS, [773869, 767541, 717447]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_every_unit_label_and_number_type_is_honoured(tmp_path, unit, columns, dtype):
    table = frame(columns, unit, dtype)
    loaded = load_metr_la(write(tmp_path, table))
    np.testing.assert_array_equal(loaded.values, table.to_numpy(np.float64))
    assert loaded.sensor_ids == tuple(IDS)
    assert loaded.time.unit == unit
    assert (loaded.time == table.index).all()


def test_an_index_without_a_unit_is_in_nanoseconds(tmp_path):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["df/axis1"].attrs["kind"] = np.bytes_("datetime64")
    assert str(load_metr_la(path).time[1]) == "2012-03-01 00:05:00"


def test_blocks_of_different_types_join_in_the_order_of_the_columns(tmp_path):
    table = frame().astype({"767541": np.float32, "717447": np.int32})
    loaded = load_metr_la(write(tmp_path, table[["767541", "773869", "717447"]]))
    assert loaded.sensor_ids == ("767541", "773869", "717447")
    assert loaded.values[0].tolist() == [11.0, 10.0, 12.0]


@pytest.mark.parametrize("library", ["zlib", "blosc"])
def test_compressed_files_load(tmp_path, library):
    loaded = load_metr_la(write(tmp_path, complib=library, complevel=5))
    assert loaded.values[0].tolist() == [10.0, 11.0, 12.0]


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_a_time_zone_is_kept(tmp_path, zone):
    table = frame(tz=zone)
    assert (load_metr_la(write(tmp_path, table)).time == table.index).all()


def test_zero_and_nan_are_missing_and_stored_as_zero(tmp_path):
    table = frame()
    table.iloc[1, 0], table.iloc[2, 1] = 0.0, np.nan
    loaded = load_metr_la(write(tmp_path, table))
    assert np.argwhere(loaded.missing).tolist() == [[1, 0], [2, 1]]
    assert (loaded.values[loaded.missing] == 0).all()


def test_an_old_offset_of_pandas_below_1_1_is_let_pass(tmp_path):
    text = (
        b"ccopy_reg\n_reconstructor\np0\n(cpandas.tseries.offsets\nMinute\np1\n"
        b"c__builtin__\nobject\np2\nNtp3\nRp4\n(dp5\nVn\np6\nI5\nsb."
    )
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["df/axis1"].attrs["freq"] = np.bytes_(text)
    assert load_metr_la(path).values.shape == (6, 3)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_a_graph_of_any_protocol_loads_and_is_put_in_order(tmp_path, protocol):
    write(tmp_path)
    order = [2, 0, 1]
    ids = [IDS[k] for k in order]
    index = {name: k for k, name in enumerate(ids)}
    weights = np.asfortranarray(WEIGHTS[np.ix_(order, order)].astype(">f4"))
    write_graph(tmp_path, [ids, index, weights], protocol)
    loaded = load_metr_la(tmp_path)
    np.testing.assert_array_equal(loaded.adjacency, WEIGHTS)


def test_a_python_2_pickle_with_latin1_bytes_loads(tmp_path):
    write(tmp_path, frame(["a"]))
    number = struct.pack("<d", 0.7)  # has bytes above 127
    write_graph(
        tmp_path,
        b"\x80\x02](]U\x01aa}U\x01aK\x00scnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x01\x86cnumpy\ndtype\n"
        b"U\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x08" + number + b"tbe.",
    )
    adjacency = load_metr_la(tmp_path).adjacency
    assert adjacency is not None
    assert adjacency.tolist() == [[0.7]]


def test_without_a_graph_there_is_no_adjacency(tmp_path):
    assert load_metr_la(write(tmp_path)).adjacency is None


# --- the series ---------------------------------------------------------------------

DAY = pd.Timestamp("2012-03-01")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"values": np.zeros((4, 2), np.float32)}, "values must be .* float64 array"),
        (
            {"values": np.full((4, 2), np.nan)},
            "finite, got nan at step 0 of sensor 'a'",
        ),
        ({"missing": np.zeros((4, 2))}, "missing must be .* bool array"),
        ({"missing": np.zeros((4, 3), bool)}, r"\(4, 2\) and \(4, 3\)"),
        ({"sensor_ids": ("a", "a")}, "'a' occurs twice"),
        ({"time": pd.DatetimeIndex([DAY] * 4)}, "strictly increasing, .* at step 1"),
        ({"adjacency": np.eye(3)}, r"adjacency must have shape \(2, 2\)"),
        ({"adjacency": -np.eye(2)}, "not negative, got -1.0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        series(**changes)


def test_forward_fill_takes_the_last_reading_and_the_first_at_the_beginning():
    values = np.array([[0.0, 5], [7, 0], [0, 0], [9, 6]])
    expected = [[7.0, 5], [7, 5], [7, 5], [9, 6]]
    assert series(values).forward_fill().tolist() == expected


def test_a_sensor_missing_throughout_is_named():
    with pytest.raises(ValueError, match="'b' is missing at all 4 steps"):
        series(np.array([[1.0, 0]] * 4)).forward_fill()


# --- windows ------------------------------------------------------------------------


def test_windows_are_the_filled_readings_in_units_of_the_observed_spread():
    source = series()
    sample = draw_windows(source, 3, 50, np.random.default_rng(1))
    filled = source.forward_fill()
    share = 0
    for window, sensor, start in zip(*sample[:3], strict=True):
        observed = source.values[~source.missing[:, sensor], sensor]
        expected = (
            filled[start : start + 3, sensor] - observed.mean()
        ) / observed.std()
        np.testing.assert_allclose(window, expected, rtol=1e-14)
        share += source.missing[start : start + 3, sensor].mean() / 50
    assert sample.filled_share == pytest.approx(share)
    assert set(sample.sensor.tolist()) == {0, 1}
    assert set(sample.start.tolist()) == {0, 1}


def test_the_same_seed_gives_the_same_windows():
    one, two = (draw_windows(series(), 2, 9, np.random.default_rng(5)) for _ in "ab")
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.start, two.start)


@pytest.mark.parametrize(
    ("length", "count", "rule"),
    [
        (0, 1, "length must be at least 1, got 0"),
        (1, 0, "count must be at least 1, got 0"),
        (5, 1, r"length \(5\) must not exceed the 4 steps"),
    ],
)
def test_sizes_that_cannot_be_drawn_are_refused(length, count, rule):
    with pytest.raises(ValueError, match=rule):
        draw_windows(series(), length, count, np.random.default_rng(0))


def test_a_sensor_that_never_changes_is_named():
    flat = series(np.array([[0.1, 1], [0.1, 2], [0.1, 3], [0, 4]]))
    with pytest.raises(ValueError, match="'a' always reads 0.1 mph"):
        draw_windows(flat, 1, 1, np.random.default_rng(0))
