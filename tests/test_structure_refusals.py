"""Bounds between steps and between nodes refuse what cannot be, by name."""

import numpy as np
import pytest

from sensitivity.convolution_bounds import (
    convolution_bound,
    lag_matrix,
)
from sensitivity.graph_bounds import (
    effective_resistance,
    filter_bound,
    message_passing_bound,
)

pytestmark = pytest.mark.usefixtures("strict_promotion")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lag_matrix(0, 2), "T must be at least 1, got 0"),
        (lambda: lag_matrix(2, 0), "taps must be at least 1, got 0"),
        (lambda: convolution_bound(2, 2, -1.0, 1), "gain must be at least 0, got -1"),
        (lambda: message_passing_bound(np.ones((2, 3)), 1, 1), "adjacency must be sq"),
        (lambda: message_passing_bound(np.eye(2) * np.nan, 1, 1), "finite, got nan"),
        (lambda: message_passing_bound(np.eye(2), 1, -1), "layers must be at least 0"),
        (lambda: message_passing_bound(np.eye(2), -1, 1), "gain must be at least 0"),
        (lambda: filter_bound(np.ones((4, 2, 2)), np.ones((2, 3, 3))), "got 4 for 2"),
        (
            lambda: filter_bound(np.ones((3, 2, 1)), np.ones((2, 3, 3)), residual=True),
            r"residual needs weights whose blocks are square.*\(2, 1\)",
        ),
        (lambda: effective_resistance(np.tri(2)), "adjacency must be symmetric"),
        (lambda: effective_resistance(-np.eye(2)), "not negative"),
    ],
)
def test_errors_name_argument_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
