"""A plain file of attention layers and their inputs: from where a model lives to here.

A NumPy archive (``.npz``) of arrays, without pickles, that any program can write:

=====================  ===============================================================
``format``             the text ``sensitivity layers``
``version``            1
``0.name``             what layer 0 is called
``0.x``                its input, (..., T, D)
``0.weights.query``    and the other fields of `AttentionWeights`, those that are None
                       left out; ``0.weights.form.rotary.cos`` and so on
``0.score_bias.causal``  and the other fields of `ScoreBias`
``0.residual``         whether the input is added to the output
``0.rows``             which query rows are real, (..., T), if not all
``0.output``           what the layer returned, if that is known
``0.labels``           words for the steps, such as tokens, (..., T), if there are any
``1.name`` ...         likewise layer 1
=====================  ===============================================================
"""

import dataclasses
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sensitivity.arguments import ArgumentError
from sensitivity.forms import AttentionForm
from sensitivity.layer_input import LayerInput
from sensitivity.layer_norm import LayerNorm
from sensitivity.rotary import Rotary
from sensitivity.weights import AttentionWeights, ScoreBias

_FORMAT, _LAYOUT = "sensitivity layers", 1
# What fields hold that are no arrays, numbers or texts.
_PARTS: dict[str, type] = {
    **{"weights": AttentionWeights, "score_bias": ScoreBias, "form": AttentionForm},
    **{name: LayerNorm for name in ("input_norm", "query_norm", "key_norm")},
    "rotary": Rotary,
}


def save_layers(path: str | Path, layers: Sequence[LayerInput]) -> None:
    """Write layers and their inputs to a file.

    Args:
        path: The file, which is replaced if it is there.
        layers: The layers, such as `Capture.layers`.

    Raises:
        ArgumentError: If there is none.
    """
    if not layers:
        raise ArgumentError("layers", "must hold at least one layer, got none.")
    found: dict[str, np.ndarray] = {
        "format": np.array(_FORMAT),
        "version": np.array(_LAYOUT),
    }
    for number, layer in enumerate(layers):
        found |= _flat(str(number), layer)
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **found)


def load_layers(path: str | Path) -> list[LayerInput]:
    """Read the layers of a file.

    Args:
        path: The file.

    Returns:
        The layers, in their order.

    Raises:
        ArgumentError: If the file is not there, cut short or damaged, is of another
            format or version, or lacks a part.

    Example:
        >>> import tempfile
        >>> one = np.ones((2, 1, 2))
        >>> layer = LayerInput(x=np.eye(2), weights=AttentionWeights(one, one, one))
        >>> path = Path(tempfile.mkdtemp()) / "layers.npz"
        >>> save_layers(path, [layer])
        >>> load_layers(path)[0].x.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise ArgumentError(
            "layers", f"must be a file that can be read, got {path}: {error.strerror}."
        ) from None
    except (ValueError, TypeError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ArgumentError(
            "layers", f"must be a whole .npz file, got {path}: {error}."
        ) from None
    form, version = arrays.pop("format", None), arrays.pop("version", None)
    if form is None or str(form) != _FORMAT:
        raise ArgumentError(
            "layers",
            f"must be a file of layers, as `save_layers` writes it, got {path}, which "
            f"holds {', '.join(sorted(arrays)[:4]) or 'nothing'}.",
        )
    if version is None or int(version) != _LAYOUT:
        raise ArgumentError(
            "layers", f"must be a file of version {_LAYOUT}, got {version} in {path}."
        )
    numbers = sorted({int(name.partition(".")[0]) for name in arrays})
    try:
        return [_built(LayerInput, str(number), arrays) for number in numbers]
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(
            "layers", f"must hold whole layers, got {path}: {error}."
        ) from None


def _flat(prefix: str, node: Any) -> dict[str, np.ndarray]:
    """The arrays of a dataclass by their path; what is None is left out."""
    found: dict[str, np.ndarray] = {}
    for field in _own(type(node)):
        value = getattr(node, field.name)
        path = f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(value):
            found |= _flat(path, value)
        elif value is not None:
            array = np.asarray(value)
            if array.dtype == jnp.bfloat16:  # which NumPy's files have not
                array = array.astype(np.float32)
            found[path] = array
    return found


def _built(kind: type, prefix: str, arrays: dict[str, np.ndarray]) -> Any:
    """A dataclass from its arrays; its checks see what the file holds."""
    given: dict[str, Any] = {}
    for field in _own(kind):
        path = f"{prefix}.{field.name}"
        part = _PARTS.get(field.name)
        if part is not None:
            if any(name.startswith(f"{path}.") for name in arrays):
                given[field.name] = _built(part, path, arrays)
        elif path in arrays:
            array = arrays[path]
            given[field.name] = array.item() if array.ndim == 0 else array
    return kind(**given)


def _own(kind: type) -> Iterable[dataclasses.Field]:
    """Fields that a user gives."""
    return (field for field in dataclasses.fields(kind) if field.init)
