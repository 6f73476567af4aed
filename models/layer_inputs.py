"""What the attention layers of a forecaster see: each at its true input."""

from collections.abc import Sequence

import jax
import numpy as np

from data import Batch
from models.forecaster import Forecaster
from models.layers import narrow
from models.temporal import TemporalAttention
from sensitivity import LayerInput


def layer_inputs(
    model: Forecaster,
    batch: Batch,
    nodes: Sequence[int] | None = None,
    dtype: np.dtype | type = np.float64,
) -> list[LayerInput]:
    """Every attention layer of a forecaster in evaluation, at its input.

    Inputs and weights are rounded as the layer rounds them before it computes: a layer
    whose products are in bfloat16 is another one than that of its float32 weights.

    Args:
        model: The forecaster.
        batch: Windows.
        nodes: The nodes to keep, by default all.
        dtype: Of what is returned.

    Returns:
        One for each layer, in order, its input of shape (B, N, T, D).

    Raises:
        ValueError: If a temporal layer is no attention.
    """
    with jax.default_matmul_precision("highest"):
        seen = model.temporal_inputs(batch.speeds, batch.time_of_day, batch.average)
    found = []
    for number, (layer, x) in enumerate(zip(model.temporal, seen, strict=True)):
        mix = layer.mix
        if not isinstance(mix, TemporalAttention):
            raise ValueError(
                f"temporal layer {number} must be attention, got a "
                f"{type(mix).__name__}."
            )
        if nodes is not None:
            x = x[np.asarray(nodes)]
        own = narrow((x, mix.weights()), model.config.precision)
        x, weights = jax.tree.map(lambda a: np.asarray(a, dtype), own)
        found.append(
            LayerInput(
                x=np.moveaxis(x, 0, 1),
                weights=weights,
                score_bias=mix.score_bias(),
                residual=layer.residual,
                name=f"temporal.{number}",
            )
        )
    return found
