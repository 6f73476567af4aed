"""Files of each kind give the series that they hold, PEMS-BAY among them."""

import numpy as np
import pandas as pd
import pytest

from data import load_dataset, load_file, load_metr_la, load_pems_bay
from tests.data_files import IDS, WEIGHTS, frame, write, write_graph

READINGS = np.array([[64.5, 0.0, 12.0], [61.0, np.nan, 13.25], [60.0, 59.0, 0.0]])
MISSING = np.array([[False, True, False], [False, True, False], [False, False, True]])


def check_readings(loaded, sensor_ids):
    """The series is READINGS, what is missing there stored as 0."""
    np.testing.assert_array_equal(loaded.missing, MISSING)
    np.testing.assert_array_equal(loaded.values, np.where(MISSING, 0.0, READINGS))
    assert loaded.sensor_ids == sensor_ids


# --- PEMS-BAY -----------------------------------------------------------------------


def write_bay(folder, ids=(400001, 400017, 400030)):
    """PEMS-BAY in small: key ``speed``, integer labels, an hour skipped in March."""
    table = frame(list(ids), steps=40)
    table.index = pd.date_range("2017-03-12 00:30", periods=52, freq="5min").delete(
        range(18, 30)
    )
    table.to_hdf(folder / "pems-bay.h5", key="speed", mode="w", format="fixed")
    write_graph(folder, ids=[str(sensor) for sensor in ids]).rename(
        folder / "adj_mx_bay.pkl"
    )
    return table


def test_pems_bay_loads_with_its_graph_and_its_ids_as_strings(tmp_path):
    table = write_bay(tmp_path)
    loaded = load_pems_bay(tmp_path)
    np.testing.assert_array_equal(loaded.values, table.to_numpy())
    np.testing.assert_array_equal(loaded.adjacency, WEIGHTS)
    assert loaded.sensor_ids == ("400001", "400017", "400030")
    assert (loaded.time == table.index).all()
    assert loaded.name == "pems-bay"
    assert load_pems_bay(tmp_path / "pems-bay.h5").adjacency is not None


def test_a_folder_without_pems_bay_is_named(tmp_path):
    write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"pems-bay\.h5 does not exist"):
        load_pems_bay(tmp_path)


def test_files_are_found_whatever_the_case_of_their_names(tmp_path):
    write(tmp_path).rename(tmp_path / "METR-LA.h5")
    write_graph(tmp_path).rename(tmp_path / "adj_mx.PKL")
    loaded = load_dataset("metr-la", tmp_path)
    np.testing.assert_array_equal(loaded.adjacency, WEIGHTS)
    assert loaded.name == "metr-la"
    write(tmp_path, frame(steps=7)).rename(tmp_path / "Metr-LA.h5")
    with pytest.raises(ValueError, match=r"one file .* \['METR-LA.h5', 'Metr-LA.h5'\]"):
        load_metr_la(tmp_path)
    write(tmp_path, frame(steps=8))  # the name itself comes first
    assert len(load_metr_la(tmp_path).values) == 8


def test_metr_la_may_be_under_the_key_of_pems_bay_but_not_under_both(tmp_path):
    path = tmp_path / "metr-la.h5"
    frame().to_hdf(path, key="speed", mode="w")
    assert load_metr_la(path).values.shape == (6, 3)
    frame().to_hdf(path, key="df", mode="a")
    with pytest.raises(ValueError, match=r"one frame, .* got \['df', 'speed'\]"):
        load_metr_la(path)


# --- one file of each kind ----------------------------------------------------------


def test_a_frame_in_hdf_loads_as_metr_la_does(tmp_path):
    path = write(tmp_path).rename(tmp_path / "city.hdf5")
    write_graph(tmp_path)
    loaded = load_file(path)
    np.testing.assert_array_equal(loaded.values, frame().to_numpy())
    assert loaded.adjacency is None  # only if it is named
    assert loaded.name == "city"
    named = load_file(path, adjacency=tmp_path / "adj_mx.pkl")
    np.testing.assert_array_equal(named.adjacency, WEIGHTS)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("features", [None, 1, 3])
def test_an_archive_of_numpy_loads_its_first_feature(
    tmp_path, dtype, save, order, features
):
    data = READINGS.astype(dtype)
    if features:
        data = np.stack([data] + [data + 100] * (features - 1), axis=-1)
    save(tmp_path / "city.npz", other=np.eye(2), data=np.asarray(data, order=order))
    check_readings(load_file(tmp_path / "city.npz"), ("0", "1", "2"))


@pytest.mark.parametrize(
    "head", ["", "time", "Timestamp", "date", "DATETIME", "Unnamed: 0"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_file_with_time_stamps_loads(tmp_path, head, end):
    time = pd.date_range("2012-03-01 23:50", periods=3, freq="5min")
    table = pd.DataFrame(READINGS, index=time, columns=["a", "b b", "7"])
    path = tmp_path / "city.csv"
    table.to_csv(path, index_label=head, lineterminator=end)
    loaded = load_file(path)
    check_readings(loaded, ("a", "b b", "7"))
    assert (loaded.time == time).all()
    with pytest.raises(ValueError, match="start must be None: .* 2012-03-01 23:50:00"):
        load_file(path, start="2012-03-01")


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "NA", "null", "0", "0.0", "-0"])
def test_a_csv_file_without_time_stamps_loads(tmp_path, missing):
    path = tmp_path / "city.csv"
    rows = [f"64.5,{missing},12", f" 61 ,{missing}, 13.25", f'"60",59,{missing}', ""]
    path.write_text("\ufeffa,b,c\n" + "\n".join(rows) + "\n", encoding="utf-8")
    loaded = load_file(path)
    check_readings(loaded, ("a", "b", "c"))
    assert loaded.time.tolist() == [
        pd.Timestamp("2024-01-01") + pd.Timedelta(minutes=5 * step) for step in range(3)
    ]
    assert loaded.time[0].day_name() == "Monday"
    later = load_file(path, start="2012-03-01 08:00").time
    assert str(later[-1]) == "2012-03-01 08:10:00"


def test_a_date_that_is_none_is_refused(tmp_path):
    path = tmp_path / "city.csv"
    path.write_text("a\n1\n")
    for start in ("soon", "2012-13-01", "NaT"):
        with pytest.raises(ValueError, match=f"start must be a date, got '{start}'"):
            load_file(path, start=start)


# --- by name ------------------------------------------------------------------------


def test_data_sets_load_by_name_or_by_path(tmp_path):
    write(tmp_path)
    write_graph(tmp_path)
    write_bay(tmp_path)
    np.save(tmp_path / "other.npy", np.eye(3))
    assert load_dataset("metr-la", tmp_path).sensor_ids == tuple(IDS)
    assert load_dataset("pems-bay", tmp_path).name == "pems-bay"
    one = load_dataset("metr-la", tmp_path, tmp_path / "other.npy")
    np.testing.assert_array_equal(one.adjacency, np.eye(3))
    path = str(tmp_path / "metr-la.h5")
    assert load_dataset(path, adjacency=tmp_path / "other.npy").name == "metr-la"
    (tmp_path / "city.csv").write_text("a\n1\n2\n")
    loaded = load_dataset(str(tmp_path / "city.csv"), start="2012-03-01")
    assert str(loaded.time[0]) == "2012-03-01 00:00:00"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("metr-la",), r"data must name the folder with metr-la\.h5, got None"),
        (("pems-bay",), r"data must name the folder with pems-bay\.h5, got None"),
        (("metr-la", ".", None, "2012-03-01"), "start must be None"),
        (("metrla",), r"must be 'metr-la', 'pems-bay' or a file .* got 'metrla'"),
        (("city.csv", "folder"), r"data must be None: city\.csv .* got 'folder'"),
    ],
)
def test_a_name_without_its_data_or_with_what_it_has_no_use_for_is_refused(
    arguments, rule
):
    with pytest.raises(ValueError, match=rule):
        load_dataset(*arguments)
