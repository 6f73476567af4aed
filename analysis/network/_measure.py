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

from analysis.network._forecaster_bounds import forecaster_bounds, graph_gains
from analysis.network._hops import road_hops
from analysis.network._summaries import (
    influence_by_hop,
    influence_by_lag,
    largest_between_nodes,
    own_node_share,
    share_of_window,
    window_ends,
)
from analysis.network._tightness import in_brief, tightness
from analysis.network.options import NetworkOptions
from data import Batch
from models.config import ForecasterConfig
from models.forecaster import Forecaster
from sensitivity.memory import format_memory, parse_memory
from sensitivity.network import plan_memory, space_time_norms
from sensitivity.network_estimate import estimate_influence

_NORMS, _BOUNDS, _PRODUCT = 5, 4, 6  # copies of a table: of norms and of bounds for
# each window, and of a bound while it is multiplied


_NORM = "spectral"  # of blocks of one number by one: all norms are its size


class Windows(NamedTuple):
    """What a forecaster is looked at on.

    Attributes:
        batch: W windows.
        nodes: Output nodes.
        adjacency: The road graph of the data set, or None.
    """

    batch: Batch
    nodes: Int[np.ndarray, " M"]
    adjacency: Float[np.ndarray, "N N"] | None


class Cost(NamedTuple):
    """What a measurement is planned to take.

    Attributes:
        outputs: Outputs at once; 0 of an estimate.
        network: Bytes of work arrays of the exact norms.
        tables: Bytes of all norms and bounds afterwards, about.
    """

    outputs: int
    network: int
    tables: int


def without_rounding(model: Forecaster) -> Forecaster:
    """A forecaster with the same weights, whose products are in float32.

    Products in bfloat16 leave nothing of small influences but rounding, and would count
    it as influence.

    Args:
        model: The forecaster.

    Returns:
        It, or one like it where its products are not in float32.
    """
    if model.config.precision == "float32":
        return model
    config = dataclasses.replace(model.config, precision="float32")
    road = np.zeros((config.nodes, config.nodes))  # for its shape only
    like = nnx.eval_shape(lambda: Forecaster(config, road, rngs=nnx.Rngs(0)))
    return nnx.merge(nnx.split(like)[0], nnx.state(model))


def as_one_function(
    model: Forecaster, windows: Windows
) -> tuple[Callable[[Array], Array], Float[np.ndarray, "WT N 1"]]:
    r"""All windows as one function, whose Jacobian holds those of all of them.

    .. math:: y[t', n'] = \sum_w f(x_w)[t', n'], \qquad
        \frac{\partial y[t', n']}{\partial x_w[t, n]}
        = \frac{\partial f(x_w)[t', n']}{\partial x_w[t, n]}

    since no window sees another: one program and one vector-Jacobian product for each
    output measure them all.

    Args:
        model: The forecaster f.
        windows: Windows x_w of T steps.

    Returns:
        The function from (W T, N, 1) to (H, M, 1), of the chosen nodes, and its input.
    """
    speeds = np.asarray(windows.batch.speeds)
    W, T, N = speeds.shape
    clock, average = windows.batch.time_of_day, windows.batch.average
    nodes = jnp.asarray(windows.nodes)

    def forecast(x: Array) -> Array:
        y = model(x.reshape(W, T, N), clock, average)  # (W, H, N)
        return y.sum(0)[:, nodes, None]

    return forecast, speeds.reshape(W * T, N, 1)


def plan(model: Forecaster, windows: Windows, options: NetworkOptions) -> Cost:
    """What `measure` will take.

    Args:
        model: The forecaster.
        windows: The windows.
        options: What is asked for.

    Returns:
        The cost.

    Raises:
        ValueError: If it is more than the budget: says what it would take.
    """
    if options.estimate is not None:
        return Cost(0, 0, 0)
    forecast, x = as_one_function(without_rounding(model), windows)
    budget = options.max_memory
    W, bounds = len(windows.batch.speeds), options.bounds
    tables = bytes_of_tables(model.config, W, bounds)
    if tables > parse_memory(budget):
        cure = "; leave the bounds out with --no-bounds, or" if bounds else ";"
        raise ValueError(
            f"--max-memory ({budget}) must be at least about {format_memory(tables)} "
            f"for the tables of {W} windows of this forecaster{cure} ask for fewer "
            "--windows."
        )
    try:
        at_once, size = plan_memory(forecast, x, _NORM, max_memory=budget)
    except ValueError as error:
        raise ValueError(
            str(error).replace("max_memory", "--max-memory")
            + " Or ask for fewer --windows."
        ) from error
    return Cost(at_once, size, tables)


def bytes_of_tables(config: ForecasterConfig, windows: int, bounds: bool) -> int:
    """Bytes that all norms of a forecaster and its bounds take, about.

    Args:
        config: What it is made of.
        windows: How many windows.
        bounds: Whether there are bounds.

    Returns:
        Bytes, in float64; with the blocks of a graph layer, one for each two nodes.
    """
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
    """Measure a forecaster, as of `without_rounding`.

    Args:
        model: The forecaster.
        windows: What it is looked at on.
        options: What is asked for.

    Returns:
        Tables by name: ``influence`` and ``summary``, with exact norms also ``hops``
        and, where asked for, ``bounds``, of an estimate also ``estimate``.

    Raises:
        ValueError: If it does not fit the budget, or a value is not finite.
    """
    model = without_rounding(model)
    if options.estimate is not None:
        return _estimated(model, windows, options)
    norms = exact_norms(model, windows, options)
    influence = influence_by_lag(norms, windows.nodes)
    hops = None if windows.adjacency is None else road_hops(windows.adjacency)
    tables = {
        "influence": influence,
        "hops": influence_by_hop(norms, windows.nodes, hops),
    }
    summary: dict[str, Any] = {
        "largest_between_nodes": largest_between_nodes(norms, windows.nodes),
        "own_node_share": own_node_share(influence),
        **window_ends(influence),
    }
    if options.bounds:
        table = tightness(
            norms,
            bounds_of(model, windows),
            layers=model.config.layers,
            epsilon=float(jnp.finfo(jnp.float32).eps),
        )
        tables["bounds"] = table
        summary |= in_brief(table)
    return tables | {"summary": pd.DataFrame([summary])}


def exact_norms(
    model: Forecaster, windows: Windows, options: NetworkOptions
) -> Float[np.ndarray, "W H M T N"]:
    """Exact norms on every window.

    Args:
        model: The forecaster.
        windows: The windows.
        options: The budget.

    Returns:
        Shape (W, H, M, T, N).
    """
    forecast, x = as_one_function(model, windows)
    found = space_time_norms(forecast, x, _NORM, max_memory=options.max_memory)
    W, T, N = windows.batch.speeds.shape
    return np.moveaxis(found.reshape(*found.shape[:2], W, T, N), 2, 0)


def bounds_of(
    model: Forecaster, windows: Windows
) -> list[dict[str, Float[np.ndarray, "H M T N"]]]:
    """Bounds on the outputs of the chosen nodes.

    Args:
        model: The forecaster.
        windows: The windows.

    Returns:
        For each window its bounds by name.
    """
    batch, found, spatial = windows.batch, [], graph_gains(model)
    with jax.default_matmul_precision("highest"):
        for w, speeds in enumerate(batch.speeds):
            average = None if batch.average is None else batch.average[w]
            clock = batch.time_of_day[w]
            bounds = forecaster_bounds(model, speeds, clock, average, spatial)
            found.append({k: v[:, windows.nodes] for k, v in bounds.items()})
    return found


def _estimated(
    model: Forecaster, windows: Windows, options: NetworkOptions
) -> dict[str, pd.DataFrame]:
    """Squared influence on the chosen nodes together, by output step."""
    forecast, x = as_one_function(model, windows)
    probes, seed = options.estimate or 0, options.seed_of_probes or 0
    estimate = estimate_influence(forecast, x, probes=probes, seed=seed, by_step=True)
    W, T, N = windows.batch.speeds.shape
    M, H = len(windows.nodes), model.config.horizon
    squared, error = (
        np.moveaxis(part.reshape(H, W, T, N), 1, 0) / M
        for part in (estimate.squared, estimate.error)
    )
    sizes = {"window_index": W, "output_step": H, "input_step": T, "input_node": N}
    index = pd.MultiIndex.from_product(
        [range(n) for n in sizes.values()],
        names=list(sizes),
    )
    each = {"squared": squared.ravel(), "standard_error": error.ravel()}
    single = pd.DataFrame(each, index=index).reset_index()
    together = squared.sum(3)  # (W, H, T)
    table = pd.DataFrame(
        {
            "squared": together.ravel(),
            "squared_share": share_of_window(together).ravel(),
        },
        index=index.droplevel("input_node").unique(),
    ).reset_index()
    table.insert(3, "lag", T - 1 - table["input_step"])
    table.insert(4, "node_kind", "all")
    ends = window_ends(table, "squared_share")
    summary = pd.DataFrame([{f"squared_{name}": value for name, value in ends.items()}])
    return {"influence": table, "estimate": single, "summary": summary}
