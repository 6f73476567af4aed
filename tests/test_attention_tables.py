"""The certificates of trained layers as a table to read."""

import numpy as np
import pandas as pd

from analysis.attention._certificates import certificate_table


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
    *_, first, second = certificate_table(table, "a note").splitlines()
    assert (
        first
        == "| 12 | (c) | column_sum | as derived | 3 | 3 of 3 | 2 | 5 | 0.5 | 0.8 |"
    )
    assert second == "| 12 | (c) | mean_field | no: masks | 3 |  | 2 |  |  |  |"
