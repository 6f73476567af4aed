"""What norms through whole forecasters say: by lag, by hop, against bounds, drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.network._hops import UNREACHABLE, road_hops
from analysis.network._summaries import (
    influence_by_hop,
    influence_by_lag,
    largest_between_nodes,
    window_ends,
)
from analysis.network._tightness import NO_BOUND, rounding, tightness
from analysis.plots.network import bounds_tightness, depth
from analysis.plots.network import influence_by_hop as by_hop
from analysis.plots.network import influence_by_lag as by_lag
from analysis.variants import check_seeds, describe
from tests.train_runs import options

ALL = np.arange(3)


def random_norms(seed=0, W=2, H=3, M=3, T=4, N=3):
    return np.random.default_rng(seed).random((W, H, M, T, N))


def test_influence_of_the_newest_step_alone_is_all_at_lag_0():
    norms = np.zeros((2, 3, 3, 8, 3))
    norms[..., -1, :] = 1.0
    table = influence_by_lag(norms, ALL)
    ends = window_ends(table)
    assert ends == {"newest_quarter": 1.0, "oldest_quarter": 0.0, "mean_lag": 0.0}
    assert set(table[table["influence"] > 0]["lag"]) == {0}
    own = table[(table["lag"] == 0) & (table["node_kind"] == "own")]
    others = table[(table["lag"] == 0) & (table["node_kind"] == "others")]
    assert (own["influence"] == 1).all()
    assert (others["influence"] == 2).all()


def test_uniform_influence_is_spread_over_the_window_alike():
    ends = window_ends(influence_by_lag(np.ones((1, 2, 3, 8, 3)), ALL))
    assert ends["newest_quarter"] == pytest.approx(0.25, rel=1e-12)
    assert ends["oldest_quarter"] == pytest.approx(0.25, rel=1e-12)
    assert ends["mean_lag"] == pytest.approx(3.5, rel=1e-12)


def test_shares_of_each_window_add_up_to_one_whatever_its_scale():
    norms = random_norms() * np.array([1.0, 100.0]).reshape(2, 1, 1, 1, 1)
    by_window = influence_by_lag(norms, ALL).groupby("window_index")
    for name in ("share", "squared_share"):
        np.testing.assert_allclose(by_window[name].sum(), 1.0, rtol=1e-12)
    hops = influence_by_hop(norms, ALL, road_hops(np.eye(3)))
    np.testing.assert_allclose(
        hops.groupby("window_index")["share"].sum(), 1.0, rtol=1e-12
    )


def test_influence_by_lag_is_a_plain_mean_of_sums():
    nodes = np.array([2, 0])
    norms = random_norms(M=2)
    table = influence_by_lag(norms, nodes).set_index(
        ["window_index", "output_step", "input_step", "node_kind"]
    )
    own = (norms[1, 2, 0, 3, 2] + norms[1, 2, 1, 3, 0]) / 2
    others = (norms[1, 2, :, 3].sum() - 2 * own) / 2
    assert table.loc[(1, 2, 3, "own"), "influence"] == pytest.approx(own, rel=1e-12)
    found = table.loc[(1, 2, 3, "others"), "influence"]
    assert found == pytest.approx(others, rel=1e-12)
    assert table.loc[(1, 2, 3, "own"), "lag"] == 0


def test_a_forecaster_that_moves_with_nothing_has_shares_of_zero():
    table = influence_by_lag(np.zeros((1, 1, 3, 4, 3)), ALL)
    assert (table["share"] == 0).all()
    assert window_ends(table)["mean_lag"] == 0


def test_hops_count_edges_either_way_and_name_what_cannot_be_reached():
    road = np.zeros((5, 5))
    road[0, 1] = road[2, 1] = 0.1
    road[3, 3] = 1.0
    hops = road_hops(road)
    assert hops[0].tolist() == [0, 1, 2, UNREACHABLE, UNREACHABLE]
    np.testing.assert_array_equal(hops, hops.T)


def test_influence_by_hop_is_the_mean_over_pairs_at_that_distance():
    hops = np.array([[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    norms = random_norms(W=1)
    table = influence_by_hop(norms, ALL, hops).set_index("hop")
    between = norms[0].mean(0).sum(1)  # (M, N)
    assert table["pairs"].to_dict() == {"0": 3, "1": 4, "2": 2}
    expected = (between[0, 2] + between[2, 0]) / 2
    assert table.loc["2", "influence"] == pytest.approx(expected, rel=1e-12)


def test_unreachable_pairs_are_a_group_of_their_own_and_come_last():
    table = influence_by_hop(random_norms(W=1), ALL, road_hops(np.eye(3)))
    assert table["hop"].tolist() == ["0", "unreachable"]
    table = influence_by_hop(random_norms(W=1), ALL, None)
    assert table["hop"].tolist() == ["0", "unknown"]


def test_the_largest_influence_between_nodes_leaves_out_the_own_node():
    norms = random_norms()
    own = np.eye(3, dtype=bool)[:, None, :]
    assert largest_between_nodes(np.where(own, norms, 0.0), ALL) == 0.0
    norms[1, 2, 0, 3, 1] = 7.0
    norms[0, 0, 1, 0, 1] = 9.0
    assert largest_between_nodes(norms, ALL) == 7.0
    assert largest_between_nodes(norms[:, :, [1]], np.array([1])) < 7.0


def test_a_bound_that_is_exceeded_beyond_rounding_does_not_hold():
    norms = random_norms(W=1) + 1.0
    low = norms[0] / 2
    table = tightness(
        norms, [{"b": 2 * norms[0], NO_BOUND: low}], layers=1, epsilon=1e-7
    ).set_index("bound")
    assert table.loc["b", "holds_share"] == 1.0
    assert table.loc["b", "ratio_median"] == pytest.approx(0.5, rel=1e-12)
    assert table.loc[NO_BOUND, "holds_share"] == 0.0
    assert table["is_bound"].to_dict() == {"b": True, NO_BOUND: False}


def test_what_may_be_rounding_counts_for_no_ratio_and_breaks_no_bound():
    norms = np.array([[[[[1.0, 1e-7]]]]])
    assert rounding(norms, 2, 1e-7).item() == pytest.approx(3.2e-6, rel=1e-12)
    bound = {"b": np.array([[[[2.0, 0.0]]]])}
    (row,) = tightness(norms, [bound], layers=2, epsilon=1e-7).to_dict("records")
    assert (row["pairs_above_rounding"], row["pairs"]) == (1, 2)
    assert (row["holds_share"], row["ratio_largest"]) == (1.0, 0.5)


def test_runs_are_called_by_what_tells_them_apart():
    short = ("--layers", "1", "--width", "4")
    runs = [
        options(*short),
        options(*short, "--graph", "diagonal"),
        options(*short, "--regularizer", "mask"),
        options("--layers", "2", "--width", "4"),
    ]
    assert [words["label"] for words in describe(runs)] == [
        "(b) No regularization, graph full, 1 layer",
        "(b) No regularization, graph diagonal, 1 layer",
        "(c) Full diagonal mask, 1 layer",
        "(b) No regularization, graph full, 2 layers",
    ]
    assert describe(runs[:1])[0]["label"] == "(b) No regularization"


def test_a_seed_of_a_variant_counts_once():
    short = ("--layers", "1", "--width", "4", "--seeds", "2")
    one, two = (options(*short, out=Path(name)) for name in ("one", "two"))
    later = options(*short, "--first-seed", "1", out=Path("later"))
    check_seeds([one, options(*short, "--regularizer", "mask")])
    check_seeds([one, options(*short, "--first-seed", "2")])
    for other, seed in ((two, 0), (later, 1)):
        said = f"but seed {seed} of .* is in one and in {other.out}"
        with pytest.raises(ValueError, match=said):
            check_seeds([one, other])


# --- Pictures


def words(**changes):
    own = {"label": "b", "variant": "b", "model": "attention", "layers": 1, "seed": 0}
    return own | {"stack": "time-and-space", "window": 4} | changes


def rows(make, *settings):
    tables = []
    for setting in settings:
        table = make()
        tables.append(table.assign(**words(**setting)))
    return pd.concat(tables, ignore_index=True)


DEPTHS = ({"label": "b, 1"}, {"label": "b, 2", "layers": 2})
KINDS = (*DEPTHS, {"label": "c", "variant": "c", "model": "convolution"})


@pytest.mark.parametrize(
    ("settings", "titles", "names"),
    [
        (DEPTHS[:1], [""], ["b"]),
        (DEPTHS, ["1 layer", "2 layers"], ["b"]),
        (
            KINDS,
            ["attention, time and space", "convolution, time and space"],
            ["1 layer", "2 layers"],
        ),
    ],
)
def test_panels_are_by_kind_or_by_depth_and_lines_by_the_rest(settings, titles, names):
    figure = by_lag(rows(lambda: influence_by_lag(random_norms(), ALL), *settings))
    assert [ax.get_title() for ax in figure.axes][: len(titles)] == titles
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    figure.canvas.draw()
    hops = rows(lambda: influence_by_hop(random_norms(), ALL, None), *settings)
    assert [ax.get_title() for ax in by_hop(hops).axes] == titles


def test_a_picture_says_which_forecaster_passes_nothing_between_nodes():
    norms = random_norms() * np.eye(3)[:, None, :]
    table = rows(lambda: influence_by_hop(norms, ALL, None), {})
    (ax,) = by_hop(table).axes
    assert "exactly 0 beyond the own node:\nb" in [text.get_text() for text in ax.texts]


def test_depth_has_a_line_for_each_kind_and_stack():
    ends = pd.DataFrame([{"newest_quarter": 0.5, "oldest_quarter": 0.1}])
    figure = depth(rows(lambda: ends, *KINDS))
    found = [text.get_text() for text in figure.legends[0].get_texts()]
    assert found == ["attention, time and space", "convolution, time and space"]


def test_tightness_names_what_is_no_bound():
    norms = random_norms(W=1)
    bounds = [{"gain product": 2 * norms[0], NO_BOUND: norms[0]}]
    table = rows(lambda: tightness(norms, bounds, layers=1, epsilon=1e-7), {})
    figure = bounds_tightness(table)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"{NO_BOUND} (leaves paths out: no bound)" in names
