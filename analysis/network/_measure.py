"""One forecaster on a few windows: its exact norms, or an estimate, as tables."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx
from jaxtyping import Array, Float, Int

from analysis.network._forecaster_bounds import Table, forecaster_bounds
from analysis.network._forecaster_gains import adjacencies, graph_gains
from analysis.network._road import (
    distance_ranks,
    distances,
    influence_by_resistance,
)
from analysis.network._summaries import (
    influence_between,
    influence_by_hop,
    influence_by_lag,
    largest_between_nodes,
    over_input_steps,
    own_node_share,
    share_of_window,
    window_ends,
)
from analysis.network._tightness import in_brief, tightness
from analysis.network.options import NetworkOptions
from data import Batch
from models.config import ForecasterConfig, Precision
from models.forecaster import Forecaster
from models.graph import Fixed, GraphConvolution, GraphLayer
from models.layers import narrow, wide
from models.temporal import TemporalAttention, TemporalLayer
from sensitivity.arguments import ArgumentError
from sensitivity.layer_gains import Factors
from sensitivity.memory import format_memory, parse_memory
from sensitivity.network import plan_memory, space_time_norms
from sensitivity.network_estimate import estimate_influence
from sensitivity.weights import AttentionWeights

_NORMS, _BOUNDS, _PRODUCT = 5, 4, 6  # copies of a table: of norms and of bounds for
# each window, and of a bound while it is multiplied
_ATTENTION = tuple(
    field.name for field in dataclasses.fields(AttentionWeights) if field.name != "form"
)
_NORM = "spectral"  # of blocks of one number by one: all norms are its size


class Windows(NamedTuple):
    """What a forecaster is looked at on."""

    batch: Batch  # W windows
    nodes: Int[np.ndarray, " M"]  # whose outputs
    adjacency: Float[np.ndarray, "N N"] | None  # the road graph of the data set


class Cost(NamedTuple):
    """What a measurement is planned to take."""

    outputs: int  # at once; 0 of an estimate
    network: int  # bytes of work arrays of the exact norms
    tables: int  # bytes of all norms and bounds afterwards, about


def precision_in_words(precision: str) -> str:
    """How a forecaster is measured, see `as_measured`."""
    if precision == "float32":
        return precision
    return f"{precision} weights, as the layers round them, and float32 products"


def as_measured(model: Forecaster) -> Forecaster:
    """A forecaster with the weights that its layers use, and products in float32."""
    # Products in bfloat16 leave nothing of small influences but rounding. Rounded
    # weights are no such noise: they are the layers that ran, and that other commands
    # look at.
    config, precision = model.config, model.config.precision
    if precision == "float32":
        return model
    graph = dataclasses.replace(config.graph, kind="road")  # takes adjacencies as given
    plain = dataclasses.replace(config, precision="float32", graph=graph)
    model = nnx.clone(model)
    for path, module in nnx.iter_modules(model):
        names: tuple[str, ...] = ()
        match module:
            case Forecaster() | TemporalLayer() | GraphLayer():
                module.config = plain
            case TemporalAttention():
                # A form's gain and added weights are computed, not stored: those of a
                # conjoint layer stay unrounded, which moves influence by 0.3 %.
                module.config, names = plain, _ATTENTION
                if config.temporal.head_norm == "rms":
                    names = (*names, "norm_scale")
            case GraphConvolution():
                module.walks = Fixed(
                    _rounded(jnp.asarray(adjacencies(module)), precision)
                )
                module.config = plain
            case nnx.Linear() if module.dtype is not None:  # a clock's is in float32
                names = ("kernel",) if "spatial" in path else ("kernel", "bias")
                module.dtype = None
        for name in names:
            param = getattr(module, name)
            param[...] = _rounded(param[...], precision)
    return model


def _rounded(array: Array, precision: Precision) -> Array:
    return wide(narrow(array, precision))


def as_one_function(
    model: Forecaster, windows: Windows
) -> tuple[Callable[[Array], Array], Float[np.ndarray, "WT N 1"]]:
    """All windows as one function (W T, N, 1) to (H, M, 1), and its input."""
    # y = sum_w f(x_w), and dy / dx_w = df(x_w) / dx_w since no window sees another: one
    # vector-Jacobian product for each output measures them all.
    speeds = np.asarray(windows.batch.speeds)
    W, T, N = speeds.shape
    clock, average = windows.batch.time_of_day, windows.batch.average
    nodes = jnp.asarray(windows.nodes)

    def forecast(x: Array) -> Array:
        y = model(x.reshape(W, T, N), clock, average)  # (W, H, N)
        return y.sum(0)[:, nodes, None]

    return forecast, speeds.reshape(W * T, N, 1)


def plan(model: Forecaster, windows: Windows, options: NetworkOptions) -> Cost:
    """What `measure` will take; refused where it is more than the budget."""
    if options.estimate is not None:
        return Cost(0, 0, 0)
    budget, W = options.max_memory, len(windows.batch.speeds)
    tables = bytes_of_tables(model.config, W, options.bounds)
    if tables > parse_memory(budget):
        cure = "; leave the bounds out with --no-bounds, or" if options.bounds else ";"
        raise ArgumentError(
            "max_memory",
            f"({budget}) must be at least about {format_memory(tables)} for the tables "
            f"of {W} windows of this forecaster{cure} ask for fewer --windows.",
        )
    forecast, x = as_one_function(as_measured(model), windows)
    try:
        at_once, size = plan_memory(forecast, x, _NORM, max_memory=budget)
    except ArgumentError as error:
        rule = f"{error.rule} Or ask for fewer --windows."
        raise ArgumentError(error.argument, rule) from error
    return Cost(at_once, size, tables)


def bytes_of_tables(config: ForecasterConfig, windows: int, bounds: bool) -> int:
    """In float64; with the blocks of a graph layer, one for each two nodes."""
    T, N, D = config.window, config.nodes, config.width
    table = max(T, config.horizon) * T * N * N
    copies = windows * _NORMS
    if not bounds:
        return 8 * copies * table
    copies += windows * _BOUNDS + _PRODUCT
    return 8 * (copies * table + 3 * N * N * D * D)


def measure(
    model: Forecaster, windows: Windows, options: NetworkOptions
) -> dict[str, pd.DataFrame]:
    """Tables by name, those of them that have rows; the estimate has its own."""
    model = as_measured(model)
    if options.estimate is not None:
        return _estimated(model, windows, options)
    norms, nodes = exact_norms(model, windows, options), windows.nodes
    influence = influence_by_lag(norms, nodes)
    road = None if windows.adjacency is None else distances(windows.adjacency)
    between, hops = influence_between(norms), None if road is None else road.hops
    tables = {"influence": influence, "hops": influence_by_hop(between, nodes, hops)}
    summary: dict[str, Any] = {
        "largest_between_nodes": largest_between_nodes(norms, nodes),
        "own_node_share": own_node_share(influence),
        **window_ends(influence),
    }
    if road is not None:
        tables["resistance"] = influence_by_resistance(between, nodes, road)
        summary |= distance_ranks(between, nodes, road)
    if options.bounds:
        layers, epsilon = model.config.layers, float(jnp.finfo(jnp.float32).eps)
        bounds = bounds_of(model, windows)
        table = tightness(norms, bounds, layers=layers, epsilon=epsilon)
        tables["bounds"] = table
        summary |= in_brief(table)
    tables["summary"] = pd.DataFrame([summary])
    return {name: table for name, table in tables.items() if len(table)}


def exact_norms(
    model: Forecaster, windows: Windows, options: NetworkOptions
) -> Float[np.ndarray, "W H M T N"]:
    """Exact norms on every window."""
    forecast, x = as_one_function(model, windows)
    found = space_time_norms(forecast, x, _NORM, max_memory=options.max_memory)
    W, T, N = windows.batch.speeds.shape
    return np.moveaxis(found.reshape(*found.shape[:2], W, T, N), 2, 0)


def bounds_of(model: Forecaster, windows: Windows) -> list[dict[str, Table]]:
    """For each window the bounds on the outputs of the chosen nodes, by name."""
    batch, found, spatial = windows.batch, [], graph_gains(model)
    with jax.default_matmul_precision("highest"):
        for w, speeds in enumerate(batch.speeds):
            average = None if batch.average is None else batch.average[w]
            clock = batch.time_of_day[w]
            bounds = forecaster_bounds(model, speeds, clock, average, spatial)
            found.append({k: _of_nodes(v, windows.nodes) for k, v in bounds.items()})
    return found


def _of_nodes(bound: Table, nodes: Int[np.ndarray, " M"]) -> Table:
    """The bound on the outputs of these nodes."""
    if isinstance(bound, Factors):
        return bound._replace(space=bound.space[nodes])
    return bound[:, nodes]


def _estimated(
    model: Forecaster, windows: Windows, options: NetworkOptions
) -> dict[str, pd.DataFrame]:
    """Squared influence on the chosen nodes together, by output step."""
    forecast, x = as_one_function(model, windows)
    probes, seed = options.estimate or 0, options.seed_of_probes or 0
    estimate = estimate_influence(forecast, x, probes=probes, seed=seed, by_step=True)
    W, T, N = windows.batch.speeds.shape
    H = model.config.horizon
    squared, error = (
        np.moveaxis(part.reshape(H, W, T, N), 1, 0) / len(windows.nodes)
        for part in (estimate.squared, estimate.error)
    )
    sizes = {"window_index": W, "output_step": H, "input_step": T, "input_node": N}
    index = pd.MultiIndex.from_product([*map(range, sizes.values())], names=[*sizes])
    each = {"squared": squared.ravel(), "standard_error": error.ravel()}
    together = squared.sum(3)[..., None]  # (W, H, T, 1)
    shares = {"squared": together, "squared_share": share_of_window(together)}
    influence = over_input_steps(shares, ["all"])
    ends = window_ends(influence, "squared_share")
    return {
        "influence": influence,
        "estimate": pd.DataFrame(each, index=index).reset_index(),
        "summary": pd.DataFrame([{f"squared_{k}": v for k, v in ends.items()}]),
    }
