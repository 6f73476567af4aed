"""What eight devices make of a layer, and what one does; `test_devices` runs it."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sensitivity import ScoreBias, path_norms, profile
from sensitivity._devices import _devices
from sensitivity.bounds import measure
from tests.helpers import Shape, make_layer

T = 11
FEW = Shape(T, 4, 2, 2, 3, 4, biases=True)  # fewer heads than devices: rows are shared
MANY = Shape(T, 4, 8, 2, 1, 4, biases=False)  # heads are shared
ONE = Shape(T, 4, 1, 3, 4, None, biases=True)


def main(name: str) -> int:
    """Compute a case on all devices, then on one, and say how far they are apart."""
    chosen = len(_devices())
    together = CASES[name]()
    with jax.default_device(jax.local_devices()[0]):
        alone = CASES[name]()
    for here, there in zip(*map(jax.tree.leaves, (together, alone)), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12)
    x, weights = make_layer(0, MANY)
    traced = jax.make_jaxpr(lambda x: profile(x, weights, norm="frobenius"))(x)
    assert "shard_map" not in str(traced)  # the caller's program is the caller's
    print(f"{len(jax.local_devices())} devices, {chosen} at work")
    return 0


def _batch(shape: Shape, samples: int) -> tuple[Any, Any]:
    x, weights = make_layer(0, shape)
    factors = np.linspace(0.5, 2, samples)[:, None, None]
    return factors * x, weights


def _samples() -> Any:
    x, weights = _batch(ONE, 9)
    return profile(x.reshape(3, 3, T, -1), weights)


def _biased_samples() -> Any:
    x, weights = _batch(FEW, 3)
    bias = np.random.default_rng(0).normal(size=(3, 1, T, T))
    return path_norms(x, weights, score_bias=ScoreBias(array=bias), engine="autodiff")


def _heads() -> Any:
    x, weights = make_layer(0, MANY)
    return profile(x, weights, norm="frobenius")


def _rows() -> Any:
    x, weights = make_layer(0, FEW)
    return measure(x, weights, norm="frobenius", score_bias=ScoreBias(causal=True))


CASES: dict[str, Callable[[], Any]] = {
    "samples": _samples,
    "samples with a bias each": _biased_samples,
    "heads": _heads,
    "rows": _rows,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
