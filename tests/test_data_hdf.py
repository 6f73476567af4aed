"""A hostile or broken .h5 file is refused, by name, and nothing in it runs."""

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest

from data import load_metr_la, safe_hdf
from tests.data_files import Touch, array, frame, write
from tests.test_data_pickles import HOSTILE

# --- hostile and broken .h5 files ---------------------------------------------------


@pytest.mark.parametrize("place", ["/", "df", "df/axis1", "df/block0_values"])
@pytest.mark.parametrize("name", ["freq", "TITLE", "CLASS", "FIELD_0_FILL", "other"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickled_attribute_is_refused_and_not_run(tmp_path, place, name, protocol):
    path = write(tmp_path)
    hostile = np.bytes_(pickle.dumps(Touch(tmp_path / "ran"), protocol))
    with h5py.File(path, "r+") as file:
        file[place].attrs[name] = hostile
    with pytest.raises(ValueError, match=rf"metr-la\.h5.*'{name}' of '.*mkdir'"):
        load_metr_la(path)
    assert not (tmp_path / "ran").exists()


ATTRIBUTES = {
    **{k: v[0] for k, v in HOSTILE.items() if "os.system" in v[1] or "eval" in k},
    "an extension code": b"\x82\x01.",
    "a call before garbage": b"cos\nsystem\n(S'touch M'\ntR\xff\xff.",
    "a call after a far memo": b"Np99999\n0cos\nsystem\n(S'touch M'\ntR.",
    "a call after a hexadecimal": b"I0x10\n0cos\nsystem\n(S'touch M'\ntR.",
    "a call after an error": b"cpandas.tseries.offsets\nMinute\n}bcos\nsystem\n(tR.",
    "a change to a class": b"cpandas.tseries.offsets\nMinute\n}S'x'\nI1\nsb.",
    "a change to a function": b"ccopy_reg\n_reconstructor\n(N}S'x'\nI1\nstb.",
    "a module beside offsets": b"cpandas.io.common\nos.system\n(S'touch M'\ntR.",
    "a NUL in front": b"\x8c\x01\x000cos\nsystem\n(S'touch M'\ntR.",
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_every_trick_in_an_attribute_is_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path)
    raw = ATTRIBUTES[case]
    with h5py.File(path, "r+") as file:
        kind = h5py.h5t.TypeID.copy(h5py.h5t.C_S1)
        kind.set_size(len(raw))  # NUL-terminated: must not hide what follows a NUL
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        node = file["df/axis1"]
        del node.attrs["freq"]
        attribute = h5py.h5a.create(node.id, b"freq", kind, space)
        attribute.write(np.array(raw, dtype=f"S{len(raw)}"), mtype=kind)
    with pytest.raises(ValueError, match=r"metr-la\.h5.*attribute 'freq'"):
        load_metr_la(path)
    assert not (tmp_path / "M").exists()


def test_filters_as_a_pickle_of_pytables_1_are_refused(tmp_path):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["FILTERS"] = np.bytes_(b"N.")
    with pytest.raises(ValueError, match="'FILTERS' of '/': it must not be a string"):
        load_metr_la(path)


def add_object_data(file):
    file["df"].create_dataset("x", data=["a"], dtype=h5py.string_dtype())


def add_bytes_data(file):
    file["df"].create_dataset("x", (1,), dtype=h5py.vlen_dtype(np.uint8))


def add_reference(file):
    file["df"].create_dataset("x", data=file["df"].ref, dtype=h5py.ref_dtype)


def add_external_link(file):
    file["df/x"] = h5py.ExternalLink("other.h5", "/df")


def add_soft_link(file):
    file["df/x"] = h5py.SoftLink("/df")


def add_external_storage(file):
    where = [("other.bin", 0, 8)]
    file["df"].create_dataset("x", (1,), dtype="f8", external=where)


def add_virtual_data(file):
    layout = h5py.VirtualLayout((1,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (1,))
    file["df"].create_virtual_dataset("x", layout)


def add_huge_data(file):
    file["df"].create_dataset("x", (2**40,), dtype="f8", chunks=(1024,))[0] = 1.0


def add_small_numbers(file):
    file["df"].create_dataset("x", (2**27 + 1,), dtype="i1", chunks=(1024,))[0] = 1


def add_one_number(file):
    file["df"].create_dataset("x", data=np.ones(1, "i1"))


def add_hollow_data(file):
    file["df"].create_dataset("x", (1000,), dtype="f8")


def add_named_type(file):
    file["df/x"] = np.dtype("f8")


def add_reference_attribute(file):
    file["df"].attrs.create("x", file["df"].ref, dtype=h5py.ref_dtype)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (add_object_data, "'/df/x' must hold numbers .* variable-length string"),
        (add_bytes_data, "'/df/x' must hold numbers .* variable-length or object"),
        (add_reference, "'/df/x' must hold numbers .* reference"),
        (add_external_link, "'/df/x' must be a hard link, got a ExternalLink"),
        (add_soft_link, "'/df/x' must be a hard link, got a SoftLink"),
        (add_external_storage, "'/df/x' must be stored in the file itself"),
        (add_virtual_data, "'/df/x' must be stored in the file itself"),
        (add_huge_data, r"takes 8796093022208 bytes .*; at most 1073741824 are read"),
        (
            add_small_numbers,
            r"'/df/x' of shape \(134217729,\) takes 1073741832 bytes as float64",
        ),
        (add_hollow_data, "'/df/x' has shape .1000,., but nothing is stored"),
        (add_named_type, "'/df/x' must be a group or a data set"),
        (add_reference_attribute, "'x' of '/df': it must be a number or a string"),
    ],
)
def test_what_pandas_never_writes_is_refused(tmp_path, change, rule):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=rf"metr-la\.h5.*{rule}"):
        load_metr_la(path)


def test_the_limit_is_on_all_data_sets_together(tmp_path, monkeypatch):
    path = write(tmp_path)  # 3 labels twice, 6 stamps, 6 x 3 readings; of 8 bytes each
    monkeypatch.setattr(safe_hdf, "MAX_BYTES", 8 * (3 + 3 + 6 + 18))
    assert load_metr_la(path).values.shape == (6, 3)
    with h5py.File(path, "r+") as file:
        add_one_number(file)
    with pytest.raises(ValueError, match="data sets so far 248; at most 240 are read"):
        load_metr_la(path)


def test_a_cycle_of_hard_links_ends(tmp_path):
    path = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["df/again"] = file["/"]
    assert load_metr_la(path).values.shape == (6, 3)


def test_a_column_of_objects_is_refused_unread(tmp_path):
    table = frame()
    table.insert(0, "object", np.array([Touch(tmp_path / "ran")] * len(table)))
    with pytest.warns(pd.errors.PerformanceWarning):
        path = write(tmp_path, table)
    with pytest.raises(ValueError, match=r"variable-length or object"):
        load_metr_la(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (frame().reset_index(drop=True), "must be time stamps .* kind 'integer'"),
        (frame() > 0, "must hold numbers .* got boolean"),
        (frame().assign(a=pd.Timestamp("2012-03-01")), "got datetime64"),
        (frame([1.5, 2.5]), "strings or integers, got float64"),
        (frame().iloc[::-1], "strictly increasing"),
        (frame().replace(10.0, np.inf), "must be finite, got inf .* '773869'"),
        (frame(pd.MultiIndex.from_product([["a"], [1, 2]])), "data set 'axis0'"),
        (frame().iloc[:0], "must not be empty"),
    ],
)
def test_a_frame_of_another_kind_is_refused(tmp_path, table, rule):
    with pytest.raises(ValueError, match=rf"metr-la\.h5.*({rule})"):
        load_metr_la(write(tmp_path, table))


def test_a_frame_under_another_key_is_refused(tmp_path):
    path = tmp_path / "metr-la.h5"
    frame().to_hdf(path, key="flow", mode="w")
    rule = r"metr-la\.h5.*key 'df' or 'speed', got \['flow'\]"
    with pytest.raises(ValueError, match=rule):
        load_metr_la(path)


def test_a_frame_in_table_format_is_refused(tmp_path):
    path = tmp_path / "metr-la.h5"
    frame().to_hdf(path, key="df", mode="w", format="table")
    with pytest.raises(ValueError, match="format='fixed'"):
        load_metr_la(path)


def test_blocks_that_do_not_make_up_the_frame_are_refused(tmp_path):
    path = write(tmp_path, frame([773869, 767541, 717447]))
    with h5py.File(path, "r+") as file:
        array(file, "df/block0_items")[0] = 767541
    with pytest.raises(ValueError, match="each of the 3 columns once"):
        load_metr_la(path)
    with h5py.File(path, "r+") as file:
        array(file, "df/axis0")[0] = 767541
    with pytest.raises(ValueError, match="'767541' occurs twice"):
        load_metr_la(path)


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = write(tmp_path)
    raw = path.read_bytes()
    for length in (0, 5, 100, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:length])
        with pytest.raises(ValueError, match=r"metr-la\.h5 is refused"):
            load_metr_la(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metr-la\.h5 does not exist"):
        load_metr_la(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load_metr_la(str(tmp_path / "nowhere"))
