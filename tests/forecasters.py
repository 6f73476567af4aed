"""Small forecasters and their inputs, for the tests of ``models``."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from models.config import ForecasterConfig, GraphConfig, TemporalConfig
from models.forecaster import Forecaster
from models.graph import random_walks
from tests.helpers import compiles_fast

ROAD = np.array([[1.0, 0.5, 0, 0], [0.25, 1, 2, 0], [0, 0, 0, 3], [0, 0, 0, 0]])


class Inputs(NamedTuple):
    """What a forecaster is called with, as float64 NumPy arrays.

    Attributes:
        speeds: Shape (B, T, N).
        time_of_day: Shape (B, T).
        average: Shape (B, T + H, N), or None.
    """

    speeds: Any
    time_of_day: Any
    average: Any


def small(
    temporal: TemporalConfig | None = None,
    graph: GraphConfig | None = None,
    **changes: Any,
) -> ForecasterConfig:
    """Sizes that all differ: 4 nodes, 5 steps in, 3 out, width 6, 2 layers, 3 heads."""
    sizes: dict[str, Any] = {"nodes": 4, "window": 5, "horizon": 3, "width": 6}
    return ForecasterConfig(
        **(sizes | {"layers": 2, "dropout": 0.0} | changes),
        temporal=temporal or TemporalConfig(heads=3),
        graph=graph or GraphConfig(embedding=2),
    )


def abstract(config: ForecasterConfig) -> Forecaster:
    """The model without its numbers: nothing is drawn or compiled."""
    return nnx.eval_shape(lambda: Forecaster(config, ROAD, rngs=nnx.Rngs(0)))


def build(
    config: ForecasterConfig, seed: int = 0, dtype: Any = np.float64, scale: float = 0.5
) -> Any:
    """Every parameter is drawn from N(0, scale^2), scales of norms around 1."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> jax.Array:
        mean = 1.0 if "scale" in jax.tree_util.keystr(path) else 0.0
        return jnp.asarray(rng.normal(mean, scale, leaf.shape), dtype)

    graph, params, walks = nnx.split(abstract(config), nnx.Param, ...)
    road = jnp.asarray(np.stack(random_walks(ROAD)), dtype)
    params = jax.tree_util.tree_map_with_path(draw, params)
    return nnx.merge(graph, params, jax.tree.map(lambda leaf: road, walks))


def draw_inputs(config: ForecasterConfig, batch: int = 2, seed: int = 1) -> Inputs:
    """Speeds and averages N(0, 1), and times of day."""
    rng = np.random.default_rng(seed)
    T, H, N = config.window, config.horizon, config.nodes
    average = rng.normal(size=(batch, T + H, N)) if config.time_of_week else None
    return Inputs(rng.normal(size=(batch, T, N)), rng.random((batch, T)), average)


def parameters(model: Any) -> Any:
    """Parameters as nested mappings of NumPy arrays, by the modules' own names."""
    return nnx.to_pure_dict(jax.tree.map(np.asarray, nnx.state(model, nnx.Param)))


def evaluate(model: Any, inputs: Inputs, key: jax.Array | None = None) -> jax.Array:
    """The forecast, compiled; with a key as in training."""
    return run(model, "__call__", *inputs, key=key)


def run(
    module: Any,
    method: str,
    *args: Any,
    key: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> Any:
    """What a method returns, compiled once for modules of one kind; for every key."""
    graph, state = nnx.split(module)
    with compiles_fast():  # tests compile more than they compute
        return _run(graph, state, method, jax.tree.map(jnp.asarray, args), key, keys)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _run(graph: Any, state: Any, method: str, args: Any, key: Any, keys: Any) -> Any:
    function = getattr(nnx.merge(graph, state), method)
    if keys is not None:
        return jax.vmap(lambda key: function(*args, key=key))(keys)
    return function(*args) if key is None else function(*args, key=key)
