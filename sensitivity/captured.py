"""What was recorded of the attention layers of a model, and how it travels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sensitivity.layer_input import LayerInput
from sensitivity.layers_file import save_layers

Labels = Sequence[Any] | np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Capture:
    """What the layers of a model were given.

    Attributes:
        layers: A `LayerInput` for every call of self-attention, in order: a layer that
            is called twice is in it twice. Its ``x``, ``weights`` and ``output`` are
            copies in the dtype of the output, as the layer computed with them, and
            `attend` gives that output again. Its ``name`` is its path in the model,
            such as ``encoder.0.attention``: the first one of a layer that is shared,
            empty where the model is the layer. What happens around a layer is not
            seen: ``residual`` is True, as `check_bounds` assumes by default, unless
            the output is not as wide as the input.
            Query rows that a mask leaves nothing, as that of padding does, are left out
            of ``rows``; such a row attends to all steps alike, as in Flax.
        refused: Names of the layers that a call cannot be analysed of, or, once the
            block has ended, that no call was seen of; and why.
    """

    layers: list[LayerInput] = dataclasses.field(default_factory=list)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)

    def save(
        self, path: str | Path, labels: Sequence[Any] | np.ndarray | None = None
    ) -> None:
        """Write the layers to a file, for ``sensitivity.sweep --layers`` and others.

        Args:
            path: The file, ``.npz``, as `sensitivity.layers_file` describes it.
            labels: Words for the steps, such as tokens, (B, T) or (T,); for all layers.

        Raises:
            ValueError: If there are no layers, or the labels do not fit their steps.
        """
        layers = self.layers
        if labels is not None:
            layers = [_labelled(layer, np.asarray(labels, str)) for layer in layers]
        save_layers(path, layers)


def _labelled(layer: LayerInput, labels: np.ndarray) -> LayerInput:
    shape = np.shape(layer.x)[:-1]
    if labels.shape not in (shape, shape[-1:]):
        raise ValueError(
            f"labels must have shape {shape} or {shape[-1:]}, one for each step of "
            f"layer {layer.name!r}, got {labels.shape}."
        )
    return dataclasses.replace(layer, labels=np.broadcast_to(labels, shape))
