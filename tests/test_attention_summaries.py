"""Numbers of trained attention, on arrays written down by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.attention._comparison import MEAN, compare, markdown
from analysis.attention._summaries import (
    DESCRIPTIONS,
    diagonal_excess,
    largest_column_mean,
    off_diagonal,
    parroting,
    quantities,
    relative_entropy,
)


def test_uniform_attention_has_entropy_one_share_one_over_T_and_no_sink():
    alpha = np.full((4, 4), 0.25)
    np.testing.assert_allclose(relative_entropy(alpha), 1, rtol=1e-15)
    assert largest_column_mean(alpha) == 0.25
    assert diagonal_excess(0.25, 4) == pytest.approx(1, rel=1e-15)


def test_uniform_attention_under_a_mask_has_entropy_one_too():
    masked = (1 - np.eye(4)) / 3
    found = relative_entropy(masked, np.full(4, 3))
    np.testing.assert_allclose(found, 1, rtol=1e-15)
    assert (relative_entropy(masked) < 1).all()
    causal = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    found = relative_entropy(causal[None, None], np.arange(1, 5))
    assert np.isnan(found[..., 0]).all()  # one step: nothing to spread over
    np.testing.assert_allclose(found[..., 1:], 1, rtol=1e-15)


def test_a_sink_takes_the_whole_column_and_the_entropy_away():
    alpha = np.zeros((2, 3, 3))
    alpha[..., 1] = 1
    assert largest_column_mean(alpha).tolist() == [1, 1]
    assert not relative_entropy(alpha).any()


def test_off_diagonal_means_are_over_the_other_steps_and_never_see_the_diagonal():
    table = np.array([[1e300, 1.0, 3.0], [2.0, 1e300, 4.0], [0.0, 0.0, 1e300]])
    assert off_diagonal(table).tolist() == [2, 3, 0]
    assert np.isnan(off_diagonal(np.ones((1, 1)))).all()


def test_rows_that_move_by_nothing_else_are_counted_and_not_averaged():
    found = parroting(np.array([[2.0, 6.0], [5.0, 0.0]]), np.array([[1, 2], [0, 0]]))
    assert found == (2.5, 2.5, 2)
    nothing = parroting(np.ones(3), np.zeros(3))
    assert np.isnan(nothing[:2]).all()
    assert nothing.left_out == 3


def test_quantities_are_means_over_rows_and_the_ratio_is_taken_row_by_row():
    rows = {name: np.ones((1, 2)) for name in ("entropy", "sink")}
    rows["attention_diagonal"] = np.array([[0.2, 0.4]])
    for path in ("value", "key", "query", "total"):
        rows[f"{path}_diagonal"] = np.array([[1.0, 9.0]])
        rows[f"{path}_off_diagonal"] = np.array([[1.0, 3.0]])
    found = quantities(rows)
    assert found["diagonal_share"] == pytest.approx(0.3)
    assert found["uniform_share"] == 0.5
    assert (found["query_diagonal"], found["total_off_diagonal"]) == (5, 2)
    assert found["parroting_mean"] == 2  # of 1 and 3, not 5 / 2
    assert "parroting_with_residual_median" not in found
    rows["total_with_residual_diagonal"] = np.ones((1, 2))
    for name in quantities(rows):
        path, _, place = name.partition("_")
        assert name in DESCRIPTIONS or (
            path in ("value", "key", "query", "total")
            and f"..._{place}" in DESCRIPTIONS
        )


def table_of(values: dict[str, list[float]]) -> pd.DataFrame:
    """Diagonal shares of one layer, by variant and seed."""
    rows = [
        {"T": 4, "variant": name, "seed": seed, "weights": "best", "step": 7 + seed}
        | {"layer": 1, "head": "layer", "quantity": "diagonal_share", "value": value}
        for name, shares in values.items()
        for seed, value in enumerate(shares)
    ]
    return pd.DataFrame(rows)


def test_variants_are_paired_with_b_by_seed_whatever_their_best_step():
    table = table_of({"b": [0.2, 0.3, 0.4], "c": [0.1, 0.2, 0.3], "lone": [0.5]})
    rows = compare(table, {(4, "c"): "b", (4, "b"): "", (4, "lone"): ""})
    rows_of = {row["variant"]: row for row in rows.to_dict("records")}
    c = rows_of["c"]
    assert (c["mean"], c["difference"]) == pytest.approx((0.2, -0.1))
    assert (c["seeds"], c["paired_seeds"], c["reference"]) == (3, 3, "b")
    # Three seeds: t(0.975, 2) = 4.303 times 0.1 / sqrt(3).
    assert c["high"] - c["mean"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert np.isnan(rows_of["lone"]["low"])
    page = markdown(rows, "spectral", "of what")
    assert "minus (b), by seed" in page
    assert "Spectral norm" in page


def test_a_variant_has_a_reference_only_at_lengths_where_b_was_trained():
    short = table_of({"b": [0.2, 0.3, 0.4], "c": [0.1, 0.2, 0.3]})
    long = table_of({"c": [0.5, 0.6, 0.7]}).assign(T=8)
    references = {(4, "b"): "", (4, "c"): "b", (8, "c"): ""}
    for table in (pd.concat([short, long]), pd.concat([long, short])):
        rows = compare(table, references)
        c = rows[(rows["variant"] == "c") & (rows["layer"] == MEAN)].set_index("T")
        assert c["reference"].to_dict() == {4: "b", 8: ""}
        assert c["paired_seeds"].to_dict() == {4: 3, 8: 0}
        assert c.loc[4, "difference"] == pytest.approx(-0.1)
        assert c["difference"].isna().to_dict() == {4: False, 8: True}
