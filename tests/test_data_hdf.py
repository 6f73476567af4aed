"""The frame in an .h5 file is read exactly; a hostile file is refused, nothing runs."""

import datetime
import pickle

import h5py
import numpy as np
import pandas as pd
import pytest

from data import _hdf, load_metr_la
from tests.data_files import IDS, Touch, array, frame, real, write
from tests.test_data_pickles import HOSTILE

VALUES = "df/block0_values"


def refused(path, rule):
    """The file is refused by name, for this reason."""
    with pytest.raises(ValueError, match=rf"metr-la\.h5.*({rule})"):
        load_metr_la(path)


# --- layouts that must load ---------------------------------------------------------


def test_the_real_file_agrees_with_pandas_to_the_last_bit():
    folder = real("metr-la-29")
    expected = pd.read_hdf(folder / "metr-la.h5", "df")
    assert isinstance(expected, pd.DataFrame)
    loaded = load_metr_la(folder)
    np.testing.assert_array_equal(loaded.values, expected.to_numpy())
    assert (loaded.time == expected.index).all()
    assert loaded.sensor_ids == tuple(expected.columns)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("columns", [IDS, [int(name) for name in IDS]])
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


@pytest.mark.parametrize("library", ["zlib", "bzip2", "blosc", "blosc:zstd", "blosc2"])
def test_compressed_files_load(tmp_path, library):
    table, path = frame(steps=3000), tmp_path / "metr-la.h5"
    with pd.HDFStore(path, "w", 5, library, fletcher32=True) as store:
        store.put("df", table, track_times=False)
    np.testing.assert_array_equal(load_metr_la(path).values, table.to_numpy())


HALF_PAST = datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", HALF_PAST])
def test_a_time_zone_is_kept(tmp_path, zone):
    table = frame(tz=zone)
    loaded = load_metr_la(write(tmp_path, table))
    assert (loaded.time == table.index).all()
    assert loaded.time[0].utcoffset() == table.index[0].utcoffset()


def test_zero_and_nan_are_missing_and_stored_as_zero(tmp_path):
    table = frame()
    table.iloc[1, 0], table.iloc[2, 1] = 0.0, np.nan
    loaded = load_metr_la(write(tmp_path, table))
    assert np.argwhere(loaded.missing).tolist() == [[1, 0], [2, 1]]
    assert (loaded.values[loaded.missing] == 0).all()


# --- nothing is unpickled -----------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_in_any_attribute_is_not_run(tmp_path, protocol):
    path = write(tmp_path)
    hostile = np.bytes_(pickle.dumps(Touch(tmp_path / "ran"), protocol))
    with h5py.File(path, "r+") as file:
        for place in ("/", "df", "df/axis1", VALUES):
            for name in ("freq", "TITLE", "CLASS", "FILTERS", "FIELD_0_FILL", "name"):
                file[place].attrs[name] = hostile
    np.testing.assert_array_equal(load_metr_la(path).values, frame().to_numpy())
    for place, name in [
        ("df", "pandas_type"),
        ("df", "nblocks"),
        ("df/axis1", "kind"),
        ("df/axis1", "tz"),
        (VALUES, "transposed"),
        (VALUES, "shape"),
    ]:
        path = write(tmp_path)
        with h5py.File(path, "r+") as file:
            file[place].attrs[name] = hostile
        refused(path, "")
    assert not (tmp_path / "ran").exists()


ZONES = {name: content for name, (content, _) in HOSTILE.items()} | {
    "a call before garbage": b"cos\nsystem\n(S'touch M'\ntR\xff\xff.",
    "a call after a far memo": b"Np99999\n0cos\nsystem\n(S'touch M'\ntR.",
    "a call after a hexadecimal": b"I0x10\n0cos\nsystem\n(S'touch M'\ntR.",
    "a change to a class": b"cdatetime\ntimezone\n}S'x'\nI1\nsb.",
    "a change of a class": b"cdatetime\ntimezone\n(N}S'utcoffset'\nI1\nstb.",
    "a call after an error": b"cdatetime\ntimezone\n}S'x'\nI1\nsbcos\nsystem\n(tR.",
    "a name inside": b"cdatetime\ntimezone.utc.utcoffset\n(tR.",
    "a call of a class": b"cdatetime\ntimedelta\n(I1\ntR.",
    "a huge offset": b"cdatetime\ntimezone\n(cdatetime\ntimedelta\n(I9999999\ntRtR.",
    "a NUL in front": b"\x8c\x01\x000cos\nsystem\n(S'touch M'\ntR.",
    "a path": b"../../../../etc/localtime",
    "a name of nothing": b"Nowhere/Else",
}


@pytest.mark.parametrize("case", ZONES)
def test_every_trick_in_the_zone_which_pandas_pickles_is_refused(
    tmp_path, monkeypatch, case
):
    monkeypatch.chdir(tmp_path)
    path, raw = write(tmp_path, frame(tz="UTC")), ZONES[case] or b"."
    with h5py.File(path, "r+") as file:
        kind = h5py.h5t.TypeID.copy(h5py.h5t.C_S1)
        kind.set_size(len(raw))  # NUL-terminated: must not hide what follows a NUL
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        node = file["df/axis1"]
        del node.attrs["tz"]
        attribute = h5py.h5a.create(node.id, b"tz", kind, space)
        attribute.write(np.array(raw, dtype=f"S{len(raw)}"), mtype=kind)
    refused(path, "has no known zone|can't decode byte")
    assert not (tmp_path / "M").exists()


def test_a_column_of_objects_is_refused_unread(tmp_path):
    table = frame()
    table.insert(0, "object", np.array([Touch(tmp_path / "ran")] * len(table)))
    with pytest.warns(pd.errors.PerformanceWarning):
        path = write(tmp_path, table)
    refused(path, "variable-length or object")
    assert not (tmp_path / "ran").exists()


# --- what pandas never writes -------------------------------------------------------


def data_set(*shape, **options):
    """Something that makes a data set of a kind in a group."""
    if shape:
        options["shape"] = shape
    return lambda group, name: group.create_dataset(name, **options)


def stored(data_set_of, *start):
    """The data set, with a chunk of one byte written."""

    def add(group, name):
        data_set_of(group, name).id.write_direct_chunk(start, b"x")

    return add


def link(kind, *place):
    """Something that links elsewhere."""
    return lambda group, name: group.__setitem__(name, kind(*place))


def virtual(group, name):
    layout = h5py.VirtualLayout((6, 3), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (6, 3))
    group.create_virtual_dataset(name, layout)


def reference(group, name):
    group.create_dataset(name, data=group.ref, dtype=h5py.ref_dtype)


def named_type(group, name):
    group[name] = np.dtype("f8")


def with_attribute(name, value):
    """Numbers with an attribute."""

    def add(group, place):
        group.create_dataset(place, data=np.ones((6, 3)))
        group[place].attrs[name] = value

    return add


OUTSIDE = [("other.bin", 0, 144)]
STRANGE = {
    "text": (data_set(data=["a"], dtype=h5py.string_dtype()), "variable-length string"),
    "bytes": (
        data_set(6, dtype=h5py.vlen_dtype(np.uint8)),
        "variable-length or object",
    ),
    "a reference": (reference, "numbers or fixed strings, got reference"),
    "a record": (data_set(6, 3, dtype="f8,f8"), "got compound"),
    "an outer link": (link(h5py.ExternalLink, "other.h5", "/df"), "a hard link"),
    "a soft link": (link(h5py.SoftLink, "/df/axis1"), "a hard link"),
    "outer storage": (
        data_set(6, 3, dtype="f8", external=OUTSIDE),
        "stored in the file itself",
    ),
    "virtual data": (virtual, "stored in the file itself"),
    "huge data": (
        stored(data_set(2**40, dtype="f8", chunks=(1024,)), 0),
        "takes 8796093022208 bytes .*; at most 1073741824 are read",
    ),
    "small numbers": (
        stored(data_set(2**27 + 1, dtype="i1", chunks=(1024,)), 0),
        r"block0_values' of shape \(134217729,\) takes 1073741832 bytes as float64",
    ),
    "huge chunks": (
        stored(data_set(6, 3, dtype="i1", maxshape=(None, 3), chunks=(2**27, 3)), 0, 0),
        r"block0_values' of shape \(6, 3\) takes 3221225472 bytes as float64",
    ),
    "hollow data": (data_set(6, 3, dtype="f8"), r"shape \(6, 3\), but nothing is sto"),
    "no data": (lambda group, name: group.create_dataset(name, dtype="f8"), ""),
    "a type": (named_type, "must have a data set 'block0_values'"),
    "a group": (lambda group, name: group.create_group(name), "must have a data set"),
    "nothing": (lambda group, name: None, "must have a data set"),
    "another filter": (
        data_set(data=np.ones((6, 3)), compression="lzf"),
        r"zlib, bzip2, blosc or blosc2, got 'lzf' \(filter 32000\)",
    ),
    "a word for a flag": (
        with_attribute("transposed", "yes"),
        "attribute 'transposed' .* must be an integer",
    ),
    "a long text": (
        with_attribute("value_type", np.bytes_(b"x" * 9000)),
        "attribute 'value_type' .* must be a number or a short text",
    ),
    "a list for a text": (
        with_attribute("value_type", np.zeros(10, "f8,f8")),
        "attribute 'value_type' .* must be a number or a short text",
    ),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_pandas_never_writes_is_refused(tmp_path, case):
    add, rule = STRANGE[case]
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        add(file["df"], "beside")
        file["df/again"] = file["/"]
    np.testing.assert_array_equal(load_metr_la(path).values, frame().to_numpy())
    with h5py.File(path, "r+") as file:
        del file[VALUES]
        add(file["df"], "block0_values")
    refused(path, rule)


@pytest.mark.parametrize(
    "elsewhere", [h5py.SoftLink("/x"), h5py.ExternalLink("other.h5", "/df")]
)
def test_a_frame_behind_a_link_is_refused(tmp_path, elsewhere):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file.move("df", "x")
        file["df"] = elsewhere
    refused(path, "'/df' must be a hard link")


def test_the_limit_is_on_all_data_sets_together(tmp_path, monkeypatch):
    path = write(tmp_path)  # 3 labels twice, 6 stamps, 6 x 3 readings; of 8 bytes each
    monkeypatch.setattr(_hdf, "MAX_BYTES", 8 * (3 + 3 + 6 + 18))
    assert load_metr_la(path).values.shape == (6, 3)
    monkeypatch.setattr(_hdf, "MAX_BYTES", 8 * (3 + 3 + 6 + 18) - 1)
    refused(path, "the frame so far 240; at most 239 are read")


def test_axes_of_a_huge_frame_are_refused_before_it_is_made(tmp_path):
    path = write(tmp_path, frame(range(10**4), steps=2))
    with h5py.File(path, "r+") as file:
        kind = dict(file["df/axis1"].attrs)
        del file["df/axis1"]
        file["df/axis1"] = np.arange(10**6)
        file["df/axis1"].attrs.update(kind)
    refused(path, "1000000 steps of 10000 columns")


# --- frames of another kind ---------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (frame().reset_index(drop=True), "must be time stamps .* kind 'integer'"),
        (frame() > 0, "must hold numbers .* got boolean"),
        (frame().assign(a=pd.Timestamp("2012-03-01")), "got datetime64"),
        (frame([1.5, 2.5]), "strings or integers, got float64"),
        (frame(pd.date_range("2012", periods=2)), "must hold sensor ids, got kind 'da"),
        (frame().iloc[::-1], "strictly increasing"),
        (frame().replace(10.0, np.inf), "must be finite, got inf .* '773869'"),
        (frame(pd.MultiIndex.from_product([["a"], [1, 2]])), "data set 'axis0'"),
        (frame().iloc[:0], "must not be empty"),
        (frame().set_index(pd.DatetimeIndex([pd.NaT] * 6)), "no time at step 0"),
    ],
)
def test_a_frame_of_another_kind_is_refused(tmp_path, table, rule):
    refused(write(tmp_path, table), rule)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"key": "flow"}, r"key 'df' or 'speed', got \['flow'\]"),
        ({"key": "df", "format": "table"}, "format='fixed'.*'frame_table'"),
    ],
)
def test_a_frame_under_another_key_or_in_table_format_is_refused(
    tmp_path, options, rule
):
    frame().to_hdf(tmp_path / "metr-la.h5", mode="w", **options)
    refused(tmp_path / "metr-la.h5", rule)


def test_blocks_that_do_not_make_up_the_frame_are_refused(tmp_path):
    path = write(tmp_path, frame([773869, 767541, 717447]))
    with h5py.File(path, "r+") as file:
        array(file, "df/block0_items")[0] = 767541
    refused(path, "each of the 3 columns once")
    with h5py.File(path, "r+") as file:
        array(file, "df/axis0")[0] = 767541
    refused(path, "'767541' occurs twice")


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = write(tmp_path)
    raw = path.read_bytes()
    for length in (0, 5, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:length])
        refused(path, "is refused")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metr-la\.h5 does not exist"):
        load_metr_la(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_metr_la(str(tmp_path / "nowhere"))
