"""Tables of trained attention: variants beside (b), and certificates."""

import numpy as np
import pandas as pd
import pytest

from analysis.attention._comparison import (
    MEAN,
    certificate_page,
    compare,
    comparison_page,
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
    page = comparison_page(rows, "spectral", "of what")
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


def test_a_line_counts_samples_and_says_where_a_certificate_does_not_apply():
    table = pd.DataFrame(
        {
            "T": 12,
            "variant": "(c)",
            "certificate": ["column_sum"] * 3 + ["mean_field"] * 3,
            "exact": [1.0, 2.0, 4.0] * 2,
            "bound": [2.0, 8.0, 5.0] + [np.nan] * 3,
            "ratio": [0.5, 0.25, 0.8] + [np.nan] * 3,
            "holds": pd.array([True, True, True, None, None, None], dtype="boolean"),
            "applies": ["as derived"] * 3 + ["no: masks"] * 3,
        }
    )
    *_, first, second = certificate_page(table, "a note").splitlines()
    assert (
        first
        == "| 12 | (c) | column_sum | as derived | 3 | 3 of 3 | 2 | 5 | 0.5 | 0.8 |"
    )
    assert second == "| 12 | (c) | mean_field | no: masks | 3 |  | 2 |  |  |  |"
