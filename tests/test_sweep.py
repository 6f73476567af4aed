"""The sweep command end to end: its files, its numbers, and every option."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.sweep import _drawn
from analysis.sweep._drawn import draw_bias, draw_inputs
from data import load_metr_la
from data.freeway import simulate_traffic
from sensitivity import check_bounds
from tests.data_files import real
from tests.sweep_runs import (
    ONE,
    STATEMENTS,
    SWEEP_COLUMNS,
    VERDICT_COLUMNS,
    finished,
    options,
    sweep,
    table,
    verdict_table,
    write_traffic,
)

FILES = {"sweep.csv", "verdicts.csv", "bound-vs-T.png", "bound-vs-T.pdf", "run.json"}


@pytest.fixture
def done():
    """A complete sweep of random inputs: its folder. Leave it as it is."""
    return finished()


@pytest.fixture(scope="module")
def freeway():
    """The default freeway is simulated once: it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_drawn, "simulate_traffic", functools.cache(simulate_traffic))
        yield


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """A folder with a small METR-LA file, every third reading missing."""
    return write_traffic(tmp_path_factory.mktemp("traffic"))


def own_rows(rows, verdict):
    """The rows of ``sweep.csv`` that a verdict is about."""
    layer = (rows["head"] == "layer") == (verdict["level"] == "layer")
    return rows[layer & (rows["statement"] == verdict["statement"])]


# --- what it leaves -----------------------------------------------------------------


def test_the_files_are_there_and_their_columns_are_as_promised(done):
    assert {file.name for file in done.iterdir()} == FILES | {"parts", ".lock"}
    assert table(done).columns.tolist() == SWEEP_COLUMNS
    verdicts = verdict_table(done)
    assert verdicts.columns.tolist() == VERDICT_COLUMNS
    assert verdicts["statement"].tolist() == STATEMENTS * 2
    assert verdicts["level"].tolist() == ["head"] * 15 + ["layer"] * 15
    assert (done / "bound-vs-T.png").read_bytes().startswith(b"\x89PNG")
    assert (done / "bound-vs-T.pdf").read_bytes().startswith(b"%PDF")


def test_there_is_one_row_per_length_seed_sample_head_and_statement(done):
    rows = table(done)
    places = rows[["T", "seed", "sample", "head", "statement"]]
    expected = pd.MultiIndex.from_product(
        [[4, 8, 12], [0, 1], [0, 1], ["0", "layer"], STATEMENTS]
    )
    assert len(rows) == len(expected)
    assert set(places.itertuples(index=False, name=None)) == set(expected)
    means = rows["statement"] == "eq8_diagonal_as_printed"
    assert (rows["rows"] == np.where(means, 1, rows["T"])).all()


def test_true_statements_hold_in_every_row(done):
    rows = table(done)
    rows = rows[~rows["statement"].str.contains("as_printed")]
    assert (rows["rows_holding"] == rows["rows"]).all()
    assert (rows["exact"] <= rows["bound"] * (1 + 1e-9)).all()
    assert (rows["ratio"] <= 1 + 1e-9).all()
    assert (rows["median_ratio"] <= rows["ratio"]).all()


def test_a_layer_of_one_head_is_that_head(done):
    rows = table(done).drop(columns="head")
    head, layer = (rows[table(done)["head"] == name] for name in ("0", "layer"))
    order = ["T", "seed", "sample", "statement"]
    pd.testing.assert_frame_equal(
        head.sort_values(order).reset_index(drop=True),
        layer.sort_values(order).reset_index(drop=True),
    )


def test_verdicts_sum_up_the_rows(done):
    for verdict in verdict_table(done).to_dict("records"):
        own = own_rows(table(done), verdict)
        assert verdict["rows"] == own["rows"].sum()
        assert verdict["rows_holding"] == own["rows_holding"].sum()
        share = own["rows_holding"].sum() / own["rows"].sum()
        assert verdict["holds_share"] == pytest.approx(share)
        assert verdict["worst_ratio"] == pytest.approx(own["ratio"].max())
        median = np.median(own["median_ratio"])
        assert verdict["median_ratio"] == pytest.approx(median)


def test_exponents_are_least_squares_with_a_t_interval(done):
    for verdict in verdict_table(done).to_dict("records"):
        own = own_rows(table(done), verdict)
        means = own.groupby(["T", "seed"])["exact"].mean().reset_index()
        u, y = np.log(means["T"].to_numpy(float)), np.log(means["exact"].to_numpy())
        design = np.stack([u, np.ones_like(u)], axis=1)
        (slope, start), *_ = np.linalg.lstsq(design, y)
        variance = ((y - slope * u - start) ** 2).sum() / (len(u) - 2)
        error = np.sqrt(variance / ((u - u.mean()) ** 2).sum())
        reach = stats.t(len(u) - 2).ppf(0.975) * error
        assert verdict["exponent"] == pytest.approx(slope, abs=1e-9)
        assert verdict["exponent_low"] == pytest.approx(slope - reach, abs=1e-9)
        assert verdict["exponent_high"] == pytest.approx(slope + reach, abs=1e-9)


def test_run_json_says_what_made_the_numbers(done):
    record = json.loads((done / "run.json").read_text())
    arguments = record["arguments"]
    assert record["command"] == "sensitivity.sweep"
    assert (arguments["T"], arguments["source"]) == ([4, 8, 12], "gaussian")
    assert (arguments["d_model"], arguments["samples"]) == (4, 2)
    assert record["complete"] is True
    assert set(record["files"]) == FILES - {"run.json"}
    assert record["seeds"] == [0, 1]
    assert record["seconds"] > 0
    assert len(record["filled_share"]) == 6
    assert {"jax", "numpy", "python", "stgnn-sensitivity"} <= record["versions"].keys()
    assert record["device"].split(":")[0] in ("cpu", "gpu", "cuda", "tpu")
    assert record["precision"].startswith("float64")


@pytest.mark.parametrize("T", [["1"], ["1", "4"]])
def test_short_sweeps_have_no_exponent_and_a_single_step_no_off_diagonal(
    tmp_path, capsys, T
):
    assert sweep(tmp_path / "out", "--T", *T) == 0
    said = capsys.readouterr().out
    assert all(statement in said for statement in STATEMENTS)
    verdicts = verdict_table(tmp_path / "out").set_index("statement")
    assert verdicts[["exponent", "exponent_low", "exponent_high"]].isna().all(axis=None)
    rows = 16 if "4" in T else 0
    assert (verdicts.loc["eq8_off_diagonal", "rows"] == rows).all()


def test_the_printed_diagonal_line_is_reported_as_failing(tmp_path, capsys):
    shape = ("--T", "96", "--d-model", "16", "--seeds", "3", "--samples", "1")
    assert sweep(tmp_path / "out", *shape) == 0
    said = capsys.readouterr().out.splitlines()
    lines = {line.split()[1]: line for line in said if line.startswith("│")}
    assert lines.keys() == set(STATEMENTS)
    verdicts = verdict_table(tmp_path / "out")
    verdicts = verdicts[verdicts["level"] == "layer"].set_index("statement")
    for statement in ("eq8_off_diagonal", "eq8_diagonal_corrected", "query_covariance"):
        assert verdicts.loc[statement, "holds_share"] == 1
        assert "288 of 288" in lines[statement]
        assert "FAILS" not in lines[statement]
    assert verdicts.loc["eq8_diagonal_as_printed", "worst_ratio"] > 1
    assert verdicts.loc["eq8_diagonal_as_printed", "holds_share"] < 1
    assert "FAILS" in lines["eq8_diagonal_as_printed"]
    assert said[-1].startswith("wrote ")
    assert all(name in said[-1] for name in FILES)


# --- every option acts --------------------------------------------------------------

CHOICES = {
    "default": (),
    "mask": ("--T", "4", "--regularizer", "mask", "--position", "sinusoidal"),
    "dropout": (
        *("--T", "4", "--regularizer", "dropout", "--dropout", "0.5"),
        *("--dtype", "float32", "--scale", "3"),
    ),
    "traffic": (
        *("--T", "4", "--source", "metr-la", "--heads", "2", "--norm", "frobenius"),
        *("--position", "tape", "--regularizer", "penalty", "--penalty", "-0.5"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOICES)
def test_rows_are_what_check_bounds_says_of_the_drawn_layers(
    name, done, traffic, tmp_path
):
    arguments, series, out = CHOICES[name], None, done
    if name != "default":
        out = tmp_path / "out"
        if name == "traffic":
            arguments += ("--data", str(traffic))
            series = load_metr_la(traffic)
        assert sweep(out, *arguments) == 0
    asked = options(*arguments)
    rows = table(out)
    for column in ("source", "position", "regularizer", "norm", "dtype"):
        part = next(
            p for p in (asked, asked.layer, asked.measure) if hasattr(p, column)
        )
        assert (rows[column] == getattr(part, column)).all()
    T, seed = asked.T[-1], 1
    layer, filled_share = draw_inputs(asked, series, T, seed)
    own = rows[(rows["T"] == T) & (rows["seed"] == seed)]
    for level in ("head", "layer"):
        expected = check_bounds(
            layer.x,
            layer.weights,
            score_bias=layer.score_bias,
            norm=asked.measure.norm,
            level=level,
        ).set_index("statement")
        here = own[(own["head"] == "layer") == (level == "layer")].groupby("statement")
        for statement in STATEMENTS:
            line, group = expected.loc[statement], here.get_group(statement)
            assert group["rows"].sum() == line["rows"]
            assert group["rows_holding"].sum() == line["rows_holding"]
            assert group["ratio"].max() == pytest.approx(line["worst_ratio"], rel=1e-6)
    if name == "traffic":
        assert sorted(set(rows["head"])) == ["0", "1", "layer"]
        shares = json.loads((out / "run.json").read_text())["filled_share"]
        assert shares["T=4-seed=1"] == filled_share
        assert 0.25 <= max(shares.values()) <= 0.5


@pytest.mark.parametrize(
    "choice",
    [
        ("--engine", "autodiff"),
        pytest.param(("--max-memory", "14KiB"), marks=pytest.mark.slow),
    ],
)
def test_engine_and_memory_change_how_but_not_what(choice, done, tmp_path):
    assert sweep(tmp_path / "out", "--T", "4", *choice) == 0
    rows, other = table(tmp_path / "out"), table(done).query("T == 4")
    assert rows["statement"].tolist() == other["statement"].tolist()
    for column in ("exact", "bound", "ratio", "median_ratio", "rows", "rows_holding"):
        np.testing.assert_allclose(rows[column], other[column], rtol=1e-9)


def drawn(*arguments, series=None, T=8, seed=0):
    """A layer at its inputs, as the options draw it."""
    return draw_inputs(options(*arguments), series, T, seed).layer


def test_what_is_drawn_follows_the_options(traffic):
    base, again, other = drawn(), drawn(), drawn(seed=1)
    assert base.x.shape == (2, 8, 4)
    assert drawn("--samples", "3").x.shape == (3, 8, 4)
    assert (again.x == base.x).all()
    assert (other.x != base.x).all()
    assert (other.weights.query != base.weights.query).all()
    np.testing.assert_array_equal(drawn(T=12).weights.value, base.weights.value)
    scaled = drawn("--scale", "2").weights
    np.testing.assert_allclose(scaled.key, 2 * np.asarray(base.weights.key))
    single = drawn("--dtype", "float32")
    assert single.x.dtype == np.asarray(single.weights.query).dtype == np.float32
    shift = drawn("--position", "sinusoidal").x - base.x
    np.testing.assert_allclose(shift[0], shift[1], atol=1e-12)
    assert np.abs(shift).max() > 0.5
    two = drawn("--heads", "2").weights
    assert two.out is not None
    assert (two.heads, np.shape(two.out)) == (2, (2, 2, 4))
    assert base.weights.out is None
    series = load_metr_la(traffic)
    windows = drawn("--source", "metr-la", "--data", str(traffic), series=series).x
    # one number along one direction
    assert np.linalg.matrix_rank(windows.reshape(-1, 4), tol=1e-9) == 1


def test_the_bias_drawn_is_that_of_the_regularizer():
    def bias(*arguments, T=400):
        layer = options(*arguments).layer
        return draw_bias(layer, T, 2, np.random.default_rng(0), "float64")

    assert (bias().diagonal, bias().array) == (0, None)
    assert bias("--regularizer", "mask").diagonal == -np.inf
    assert bias("--regularizer", "penalty").diagonal == -0.1
    assert bias("--regularizer", "penalty", "--penalty", "-2").diagonal == -2
    for chance, given in ((0.2, ()), (0.6, ("--dropout", "0.6"))):
        array = np.asarray(bias("--regularizer", "dropout", *given).array)
        assert array.shape == (2, 1, 400, 400)
        dropped = np.isneginf(array)
        assert (array[~dropped] == 0).all()
        assert not dropped[..., ~np.eye(400, dtype=bool)].any()
        diagonals = dropped.diagonal(axis1=-2, axis2=-1)
        assert diagonals.mean() == pytest.approx(chance, abs=0.06)
        assert (diagonals[0] != diagonals[1]).any()  # fresh per sample


# --- windows of traffic -------------------------------------------------------------


def test_without_a_position_encoding_it_says_what_the_tokens_are(
    tmp_path, capsys, traffic
):
    note = "every token is a scalar, the speed, times one vector"
    for position, noted in (("none", True), ("tape", False)):
        asked = (*ONE, "--source", "metr-la", "--data", traffic)
        out = tmp_path / position
        assert sweep(out, *asked, "--position", position) == 0
        assert (note in " ".join(capsys.readouterr().out.split())) == noted
        notes = json.loads((out / "run.json").read_text())["notes"]
        assert any(note in one for one in notes) == noted


@pytest.mark.usefixtures("freeway")
def test_lengths_beyond_what_is_simulated_are_refused(tmp_path, capsys):
    asked = ("--source", "payne-whitham", "--T", "20000")
    assert sweep(tmp_path / "out", *asked) == 2
    assert "must not exceed the 10080 steps of payne-whitham" in capsys.readouterr().err


@pytest.mark.usefixtures("freeway")
@pytest.mark.parametrize(
    "source", ["payne-whitham", pytest.param("metr-la", marks=pytest.mark.slow)]
)
def test_windows_of_traffic_show_every_verdict(tmp_path, capsys, source):
    asked = ("--source", source, "--T", "4", "8", "--position", "tape")
    if source == "metr-la":
        asked += ("--data", str(real("metr-la-29")))
    assert sweep(tmp_path / "out", *asked) == 0
    assert "missing readings filled" in capsys.readouterr().out
    verdicts = verdict_table(tmp_path / "out").set_index("statement")
    assert set(verdicts.index) == set(STATEMENTS)
    assert (verdicts.loc["eq8_off_diagonal", "holds_share"] == 1).all()
    assert (verdicts.loc["eq8_diagonal_corrected", "holds_share"] == 1).all()
    shares = json.loads((tmp_path / "out" / "run.json").read_text())["filled_share"]
    assert len(shares) == 4
    assert all(0 <= share <= 1 for share in shares.values())
