"""What norms through whole forecasters say: by lag, by hop, against bounds, drawn."""

import numpy as np
import pandas as pd
import pytest

from analysis.network._results import bounds_page, remarks
from analysis.network._road import UNREACHABLE, road_hops
from analysis.network._summaries import (
    influence_between,
    influence_by_hop,
    influence_by_lag,
    largest_between_nodes,
    own_node_share,
    window_ends,
)
from analysis.network._tightness import in_brief, rounding, tightness
from analysis.plots.network import bounds_tightness, depth
from analysis.plots.network import influence_by_hop as by_hop
from analysis.plots.network import influence_by_lag as by_lag
from analysis.variants import describe
from sensitivity.layer_gains import Factors
from tests.train_runs import options

NO_BOUND = "frozen attention"
ALL, SOME = np.arange(3), np.array([2, 0])
LIMITS = {"layers": 1, "epsilon": 1e-7}


def random_norms(seed=0, W=2, H=3, M=3, T=4, N=3):
    return np.random.default_rng(seed).random((W, H, M, T, N))


def test_the_ends_of_the_window_are_counted_from_its_newest_step():
    norms = np.zeros((2, 3, 3, 8, 3))
    norms[..., -1, :] = 1.0
    table = influence_by_lag(norms, ALL)
    names = ("newest_quarter", "oldest_quarter", "mean_lag")
    assert tuple(window_ends(table)[name] for name in names) == (1, 0, 0)
    assert set(table[table["influence"] > 0]["lag"]) == {0}
    newest = table[table["lag"] == 0].groupby("node_kind")["influence"].unique()
    assert (newest["own"].tolist(), newest["others"].tolist()) == ([1], [2])
    uniform = window_ends(influence_by_lag(np.ones((1, 2, 3, 8, 3)), ALL))
    assert [uniform[k] for k in names] == pytest.approx([0.25, 0.25, 3.5], rel=1e-12)
    none = influence_by_lag(np.zeros((1, 1, 3, 4, 3)), ALL)
    assert (none["share"] == 0).all()
    assert window_ends(none)["mean_lag"] == 0


def test_shares_of_each_window_add_up_to_one_whatever_its_scale():
    norms = random_norms() * np.array([1.0, 100.0]).reshape(2, 1, 1, 1, 1)
    lags = influence_by_lag(norms, ALL)
    hops = influence_by_hop(influence_between(norms), ALL, road_hops(np.eye(3)))
    for table, name in ((lags, "share"), (lags, "squared_share"), (hops, "share")):
        sums = table.groupby("window_index")[name].sum()
        np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


def test_influence_by_lag_is_a_plain_mean_of_sums():
    norms = random_norms(M=2)
    table = influence_by_lag(norms, SOME).set_index(
        ["window_index", "output_step", "input_step", "node_kind"]
    )
    own = (norms[1, 2, 0, 3, 2] + norms[1, 2, 1, 3, 0]) / 2
    others = (norms[1, 2, :, 3].sum() - 2 * own) / 2
    for kind, expected in (("own", own), ("others", others)):
        found = table.loc[(1, 2, 3, kind), "influence"]
        assert found == pytest.approx(expected, rel=1e-12)
    assert table.loc[(1, 2, 3, "own"), "lag"] == 0


def test_the_share_of_the_own_node_is_that_of_the_pairs_with_itself():
    norms = np.zeros((2, 1, 2, 1, 3))
    norms[0, 0, 0, 0] = [0, 0, 3]  # node 2 on itself
    norms[0, 0, 1, 0] = [0, 1, 0]  # node 1 on node 0
    norms[1, 0, 1, 0] = [1, 0, 0]  # node 0 on itself
    assert own_node_share(influence_by_lag(norms, SOME)) == (0.75 + 1) / 2


def test_hops_count_edges_either_way_and_name_what_cannot_be_reached():
    road = np.zeros((5, 5))
    road[0, 1] = road[2, 1] = 0.1
    road[3, 3] = 1.0
    hops = road_hops(road)
    assert hops[0].tolist() == [0, 1, 2, UNREACHABLE, UNREACHABLE]
    np.testing.assert_array_equal(hops, hops.T)


def test_influence_by_hop_is_the_mean_over_pairs_at_that_distance():
    hops = np.array([[0, 1, 2], [1, 0, 1], [2, 3, 0]])  # of nodes 2 and 0: 2 3 0, 0 1 2
    norms = random_norms(W=1, M=2)
    table = influence_by_hop(influence_between(norms), SOME, hops).set_index("hop")
    between = norms[0].mean(0).sum(1)  # (M, N)
    assert table["pairs"].to_dict() == {"0": 2, "1": 1, "2": 2, "3": 1}
    expected = {
        "0": (between[0, 2] + between[1, 0]) / 2,
        "1": between[1, 1],
        "2": (between[0, 0] + between[1, 2]) / 2,
        "3": between[0, 1],
    }
    assert table["influence"].to_dict() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("hops", "names"),
    [
        (road_hops(np.eye(3)), ["0", "unreachable"]),
        (road_hops(np.diag([1.0, 0], 1)), ["0", "1", "unreachable"]),
        (None, ["0", "unknown"]),
    ],
)
def test_pairs_without_a_path_are_a_group_of_their_own_and_come_last(hops, names):
    table = influence_by_hop(influence_between(random_norms(W=1)), ALL, hops)
    assert table["hop"].tolist() == names


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
    bounds = {"graph": 2 * norms[0], NO_BOUND: norms[0] / 2}
    table = tightness(norms, [bounds], **LIMITS).set_index("bound")
    assert table.loc["graph", "holds_share"] == 1.0
    assert table.loc["graph", "ratio_median"] == pytest.approx(0.5, rel=1e-12)
    assert table.loc["graph", "exact_median"] == np.median(norms)
    assert table.loc["graph", "bound_median"] == 2 * np.median(norms)
    assert table.loc[NO_BOUND, "holds_share"] == 0.0
    assert table["is_bound"].to_dict() == {"graph": True, NO_BOUND: False}


def test_a_bound_may_be_loose_and_rank_influence_all_the_same():
    norms = random_norms(W=2, M=2, N=2)
    squares, constant = [n**2 + 9 for n in norms], Factors(np.ones((3, 4)), np.eye(2))
    constant = constant._replace(space=np.ones((2, 2)))
    given = {"graph": squares, "factorised": 5 - norms, "rollout": [constant] * 2}
    bounds = [{name: each[w] for name, each in given.items()} for w in range(2)]
    table = tightness(norms, bounds, **LIMITS).set_index("bound")
    found = table["rank_correlation"]
    assert found["graph"] == pytest.approx(1, rel=1e-12)
    assert found["factorised"] == pytest.approx(-1, rel=1e-12)
    assert np.isnan(found["rollout"])  # ranks all alike


def test_rank_correlations_are_means_over_windows_of_the_pairs_above_rounding():
    exact = np.array([[1.0, 2.0, 3.0, 0.0], [1.0, 2.0, 3.0, 0.0]])
    bound = np.array([[1.0, 3.0, 2.0, 9.0], [4.0, 5.0, 6.0, 9.0]])
    norms = exact.reshape(2, 1, 1, 1, 4)
    bounds = [{"graph": bound[w].reshape(1, 1, 1, 4)} for w in range(2)]
    (row,) = tightness(norms, bounds, **LIMITS).to_dict("records")
    # Of three pairs d^2 = 0, 1, 1: 1 - 6 * 2 / (3 * 8) = 1 / 2.
    assert row["rank_correlation"] == pytest.approx((0.5 + 1) / 2, rel=1e-12)


def test_what_may_be_rounding_counts_for_no_ratio_and_breaks_no_bound():
    norms = np.array([[[[[1.0, 1e-7]]]]])
    assert rounding(norms, 2, 1e-7).item() == pytest.approx(3.2e-6, rel=1e-12)
    bound = {"graph": np.array([[[[2.0, 0.0]]]])}
    (row,) = tightness(norms, [bound], layers=2, epsilon=1e-7).to_dict("records")
    assert (row["pairs_above_rounding"], row["pairs"]) == (1, 2)
    assert (row["holds_share"], row["ratio_largest"]) == (1.0, 0.5)


def ratios(exact, bound):
    """Tightness of one bound in some pairs."""
    norms = np.array(exact, float).reshape(1, 1, 1, 1, -1)
    bounds = [{"gain product": np.array(bound, float).reshape(1, 1, 1, -1)}]
    return tightness(norms, bounds, **LIMITS)


def test_in_brief_a_bound_has_its_median_and_the_share_that_holds():
    table = ratios([1, 1, 1, 3], [10, 5, 4, 2])
    (row,) = table.to_dict("records")
    assert row["ratio_median"] == pytest.approx((0.2 + 0.25) / 2)
    assert row["ratio_largest"] == 1.5
    assert in_brief(table) == {
        "gain_product_ratio_median": row["ratio_median"],
        "gain_product_holds_share": 0.75,
        "gain_product_rank_correlation": row["rank_correlation"],
    }


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


# --- Pictures


def rows(table, *settings):
    """A table as of runs of these settings, which all measured the same."""
    own = {"label": "b", "variant": "b", "model": "attention", "layers": 1, "seed": 0}
    own |= {"stack": "time-and-space", "window": 4, "horizon": 3}
    return pd.concat([table.assign(**own | setting) for setting in settings])


def texts(found):
    return [text.get_text() for text in found]


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
    norms = random_norms()
    figure = by_lag(rows(influence_by_lag(norms, ALL), *settings))
    assert [ax.get_title() for ax in figure.axes][: len(titles)] == titles
    assert texts(figure.legends[0].get_texts()) == names
    figure.canvas.draw()
    hops = rows(influence_by_hop(influence_between(norms), ALL, None), *settings)
    assert [ax.get_title() for ax in by_hop(hops).axes] == titles


def test_a_picture_says_which_forecaster_passes_nothing_between_nodes():
    norms = random_norms() * np.eye(3)[:, None, :]
    (ax,) = by_hop(rows(influence_by_hop(influence_between(norms), ALL, None), {})).axes
    assert "exactly 0 beyond the own node:\nb" in texts(ax.texts)


def test_depth_has_a_line_for_each_kind_and_stack():
    ends = pd.DataFrame([{"newest_quarter": 0.5, "oldest_quarter": 0.1}])
    found = texts(depth(rows(ends, *KINDS)).legends[0].get_texts())
    assert found == ["attention, time and space", "convolution, time and space"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_tightness_names_what_is_no_bound_and_keeps_bars_off_the_frame(seeds):
    norms = random_norms(W=1)
    bounds = [{"gain product": 2 * norms[0], NO_BOUND: norms[0]}]
    table = tightness(norms, bounds, **LIMITS)
    figure = bounds_tightness(rows(table, *({"seed": seed} for seed in range(seeds))))
    names = texts(figure.legends[0].get_texts())
    assert f"{NO_BOUND} (no bound)" in names
    ax, ranks = figure.axes
    assert "rank correlation" in ranks.get_xlabel()
    low, high = sorted(ax.get_ylim())
    bars = [y for line in ax.get_lines()[:-3] for y in np.asarray(line.get_ydata())]
    assert low + 0.2 < min(bars) < max(bars) < high - 0.2


def test_pictures_say_what_they_show_of_how_many_seeds():
    norms = random_norms(W=1)
    table = influence_by_lag(norms, ALL)
    one, two = (
        by_lag(rows(table, *({"seed": seed} for seed in range(seeds)))).get_suptitle()
        for seeds in (1, 2)
    )
    assert one.endswith("\n4 steps in, 3 out; one seed")
    assert "means over 2 seeds, bands from the lowest to the highest" in two
    unequal = rows(table, {"label": "c"}, {"seed": 0}, {"seed": 1})
    assert "means over 1 to 2 seeds" in by_lag(unequal).get_suptitle()


def test_a_legend_of_long_names_stays_inside_the_picture():
    names = [f"{letter}, a variant of a very long name indeed" for letter in "bcd"]
    settings = [{"label": name, "variant": name} for name in names]
    figure = by_lag(rows(influence_by_lag(random_norms(), ALL), *settings))
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_where_rounding_leaves_nothing_it_is_said():
    silent = ratios([0, 0], [1, 1])
    table = rows(ratios([1, 1], [2, 2]), {"label": "one"})
    two = rows(silent, {"label": "two"}, {"label": "two", "seed": 1})
    table = pd.concat([table, two])
    (line,) = remarks(table)
    assert line.startswith("two, seeds 0, 1: no pair is above rounding")
    bounds_tightness(table).canvas.draw()
    page = bounds_page(table)
    assert "| two | gain product | none | none |" in page
    assert "| one | gain product | 1.0e+00 | 2.0e+00 | 5.0e-01 |" in page
    assert "| gain product | product of the exact gains of all layers | the win" in page


def test_the_page_of_bounds_says_what_is_none():
    norms = random_norms(W=1)
    table = rows(tightness(norms, [{NO_BOUND: norms[0]}], **LIMITS), {})
    page = bounds_page(table)
    assert f"| {NO_BOUND} (no bound) |" in page
    assert "Barbero et al." in page
    assert page.count("| 1.00 |\n") == 1  # its rank correlation
