"""What every layer of a forecaster does around its mixing of steps or of nodes."""

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from models._dropout import dropout
from models._initial import layer_norm, linear
from models.config import ForecasterConfig


class ResidualLayer(nnx.Module):
    r"""A mixing f with its clock, residual and layer norm.

    .. math:: x \leftarrow \mathrm{LN}(x + \mathrm{drop}(f(x) + W_\tau \tau))

    with :math:`\tau` the time of day; without the residual
    :math:`\mathrm{LN}(\mathrm{drop}(f(x) + W_\tau \tau))`.
    """

    def __init__(
        self,
        mix: nnx.Module,
        config: ForecasterConfig,
        *,
        residual: bool,
        rngs: nnx.Rngs,
    ):
        """Draw the weights around the mixing.

        Args:
            mix: Called with x and the key that its own dropout is drawn from.
            config: The model.
            residual: Whether the input is added to what is mixed.
            rngs: What the weights are drawn from.
        """
        self.mix, self.residual = mix, residual
        self.clock = linear(1, config.width, precision="float32", rngs=rngs)
        self.norm = layer_norm(config.width, rngs=rngs)
        self.config = config

    def __call__(
        self,
        x: Float[Array, "N B T D"],
        clock: Float[Array, "N B T 1"],
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "N B T D"]:
        """Mix.

        Args:
            x: Inputs, shape (N, B, T, D).
            clock: Time of day in [0, 1), shape (N, B, T, 1).
            key: What dropout is drawn from; None is evaluation.

        Returns:
            Outputs, of the shape of ``x``.
        """
        mix_key, drop_key = (None, None) if key is None else jax.random.split(key)
        moved = self.mix(x, mix_key) + self.clock(clock)
        moved = dropout(moved, self.config.dropout, drop_key)
        return self.norm(x + moved if self.residual else moved)
