"""One rule for the residual: it is there where it fits, unless the caller says."""

from sensitivity.arguments import ArgumentError
from sensitivity.weights import AttentionWeights


def adds_identity(
    residual: bool | None, weights: AttentionWeights, per_head: bool
) -> bool:
    """Whether the identity is added where i = j; refused where it was asked for."""
    if residual:
        check_residual(weights, per_head)
    width = weights.head_output_width if per_head else weights.output_width
    return width == weights.model_width if residual is None else bool(residual)


def check_residual(weights: AttentionWeights, per_head: bool) -> None:
    """Refuse a residual that has nothing to be added to."""
    width = weights.head_output_width if per_head else weights.output_width
    if width != weights.model_width:
        raise ArgumentError(
            "residual",
            f"needs an output as wide as the input: O={width}, "
            f"D={weights.model_width}.",
        )
