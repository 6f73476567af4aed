"""The ways to get path norms that the benchmark compares, each as a plain call.

All of them see the same layer and inputs; the unit of cost is one jitted forward pass
of one layer on one sequence.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

Method = Literal[
    "forward", "path_norms", "profile", "autodiff", "jacrev", "torch", "check_bounds"
]
LayerName = Literal["one head", "eight heads", "bert"]
NormName = Literal["frobenius", "spectral"]
DtypeName = Literal["float32", "float64"]


class LayerSize(NamedTuple):
    """A layer of random kernels; several heads have an output projection."""

    width: int  # D
    heads: int


NARROW = ("one head", "eight heads")  # the layers that every method is measured on
SIZES: dict[str, LayerSize] = {
    "one head": LayerSize(64, 1),
    "eight heads": LayerSize(64, 8),
    "bert": LayerSize(768, 12),
}
MODEL_LAYERS, SEQUENCES = 12, 8  # of the model whose verdicts `check_bounds` makes
SEED = 0

# What each method is, for the reader of a table.
MEANINGS: dict[str, str] = {
    "forward": "one jitted forward pass",
    "path_norms": "closed form: path_norms, every pair of steps",
    "profile": "closed form: profile, row statistics",
    "autodiff": "path_norms(engine='autodiff'), streamed by row",
    "jacrev": "plain jax.jacrev of the whole layer, then norms",
    "torch": "torch.func.jacrev(chunk_size=1024), then norms",
    "check_bounds": f"check_bounds of {MODEL_LAYERS} layers of other weights, "
    f"{SEQUENCES} sequences, heads and layer",
}

# The longest window of a method at (one head, eight heads): beyond it the cost or the
# memory is too much for a run of a few minutes (the dense ones need GiB from 256 on).
_LONGEST: dict[tuple[str, str], tuple[int, int]] = {
    ("forward", "none"): (4096, 4096),
    ("path_norms", "frobenius"): (4096, 1024),
    ("path_norms", "spectral"): (512, 64),
    ("profile", "frobenius"): (4096, 65536),
    ("profile", "spectral"): (1024, 2048),
    ("autodiff", "frobenius"): (1024, 512),
    ("autodiff", "spectral"): (64, 64),
    ("jacrev", "frobenius"): (128, 128),
    ("jacrev", "spectral"): (128, 64),
    ("torch", "frobenius"): (128, 128),
    ("torch", "spectral"): (32, 32),
}

# What is measured at the size of BERT: method, norm, T.
_OF_BERT: tuple[tuple[str, str, int], ...] = (
    ("forward", "none", 32),
    ("path_norms", "spectral", 32),
    ("forward", "none", 128),
    ("path_norms", "frobenius", 128),
    ("profile", "frobenius", 128),
    ("profile", "spectral", 128),
    ("check_bounds", "frobenius", 128),
    ("forward", "none", 512),
    ("path_norms", "frobenius", 512),
)
# ... and in float64 beside a run in float32.
_OF_BERT_DOUBLE = (("profile", "frobenius", 128),)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One thing to measure."""

    method: str
    layer: str
    norm: str  # "none" for the forward pass
    T: int
    dtype: str = "float32"


def longest_windows() -> list[dict[str, Any]]:
    """The longest window of every method and norm, for each layer of width 64."""
    return [
        {"method": method, "norm": norm} | dict(zip(NARROW, lengths, strict=True))
        for (method, norm), lengths in _LONGEST.items()
    ]


def cells(
    lengths: tuple[int, ...],
    methods: tuple[str, ...],
    layers: tuple[str, ...],
    norms: tuple[str, ...],
    dtype: str,
) -> list[Cell]:
    """What is measured of all this, with the forward pass, the unit."""
    chosen = []
    # Short windows first, so that ratios are close in time.
    for T in sorted(set(lengths)):
        for layer in dict.fromkeys(layers):
            for cell in _at(T, layer, dtype):
                asked = cell.method in methods and cell.norm in norms
                if asked or cell.method == "forward":
                    chosen.append(cell)
    return chosen


def _at(T: int, layer: str, dtype: str) -> list[Cell]:
    """Every cell of a layer at one length, each method up to its longest window."""
    if layer in NARROW:
        lengths = {key: most[NARROW.index(layer)] for key, most in _LONGEST.items()}
        rows = [(*key, dtype) for key, most in lengths.items() if T <= most]
    else:
        rows = [(*row[:2], dtype) for row in _OF_BERT if row[2] == T]
        if dtype == "float32":
            rows += [(*row[:2], "float64") for row in _OF_BERT_DOUBLE if row[2] == T]
    return [
        Cell(method=method, layer=layer, norm=norm, T=T, dtype=own)
        for method, norm, own in rows
    ]


def unit_of(cell: Cell) -> Cell | None:
    """The forward pass that a cell's cost is told in, where one is measured."""
    unit = dataclasses.replace(cell, method="forward", norm="none")
    known = cell.method not in ("forward", "torch")
    return unit if known and unit in _at(cell.T, cell.layer, cell.dtype) else None


def prepare(cell: Cell) -> Callable[[], Any]:
    """A call that does the work and waits for it; its arrays are on the device."""
    random = np.random.default_rng(SEED)
    if cell.method == "torch":
        return _torch_call(*_draw(cell, random), cell.norm)
    import jax

    from sensitivity import AttentionWeights

    def ready(batch: tuple[int, ...] = ()) -> Any:
        x, kernels = _draw(cell, random, batch)
        arrays = jax.device_put((x, AttentionWeights(**kernels)), jax.devices()[0])
        return jax.block_until_ready(arrays)

    if cell.method == "check_bounds":
        return _verdicts([ready((SEQUENCES,)) for _ in range(MODEL_LAYERS)], cell.norm)
    x, weights = ready()
    function = _jax_function(cell)
    return lambda: jax.block_until_ready(function(x, weights))


def planned_bytes(cell: Cell) -> float:
    """What the library plans for its work arrays; NaN where it plans nothing."""
    levels = {
        "profile": ("head",),
        "path_norms": ("layer",),
        "autodiff": ("layer",),
        "check_bounds": ("head", "layer"),
    }
    if cell.method not in levels:
        return math.nan
    from sensitivity import AttentionWeights
    from sensitivity.bounds import plan_memory

    x, kernels = _draw(cell, np.random.default_rng(SEED))
    options: Any = {"norm": cell.norm, "levels": levels[cell.method]}
    if cell.method == "autodiff":
        options["engine"] = "autodiff"
    weights = AttentionWeights(**kernels)
    return plan_memory(x.shape, x.dtype, weights, **options)


def _draw(
    cell: Cell, random: np.random.Generator, batch: tuple[int, ...] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs N(0, 1) and kernels N(0, 1/D), several heads with an output projection."""
    D, H = SIZES[cell.layer]
    K = D // H
    names = ("query", "key", "value")
    shapes: dict[str, tuple[int, int, int]] = {n: (D, H, K) for n in names}
    if H > 1:
        shapes["out"] = (H, K, D)
    kernels = {
        name: (random.normal(size=shape) * D**-0.5).astype(cell.dtype)
        for name, shape in shapes.items()
    }
    return random.normal(size=(*batch, cell.T, D)).astype(cell.dtype), kernels


def _verdicts(layers: Sequence[tuple[Any, Any]], norm: Any) -> Callable[[], Any]:
    from sensitivity import check_bounds

    levels: tuple[Any, ...] = ("head", "layer")
    return lambda: [
        check_bounds(x, weights, norm=norm, level=level)
        for x, weights in layers
        for level in levels
    ]


def _jax_function(cell: Cell) -> Callable[[Any, Any], Any]:
    import jax

    from sensitivity import path_norms, profile
    from sensitivity.attention import attend

    norm: Any = cell.norm
    match cell.method:
        case "forward":
            return jax.jit(lambda x, weights: attend(x, x, x, weights))
        case "path_norms":
            return lambda x, weights: path_norms(x, weights, norm=norm, residual=False)
        case "profile":
            return lambda x, weights: profile(x, weights, norm=norm)
        case "autodiff":
            return lambda x, weights: path_norms(
                x, weights, norm=norm, residual=False, engine="autodiff"
            )
        case "jacrev":
            return jax.jit(lambda x, weights: _jacrev_norms(x, weights, norm))
    raise ValueError(f"method must be one of {get_args(Method)}, got {cell.method!r}.")


def _jacrev_norms(x: Any, weights: Any, norm: str) -> Any:
    """Norms of the query, key and value paths and of the total, shape (4, T, T)."""
    import jax
    import jax.numpy as jnp

    def layer(x_q: Any, x_k: Any, x_v: Any) -> Any:
        # Written out as anybody would: `attend` has derivatives made for the CPU.
        q = jnp.einsum("td,dhk->htk", x_q, weights.query)
        k = jnp.einsum("td,dhk->htk", x_k, weights.key)
        v = jnp.einsum("td,dhv->htv", x_v, weights.value)
        alpha = jax.nn.softmax(q @ k.mT * q.shape[-1] ** -0.5)
        if weights.out is None:
            return (alpha @ v)[0]
        return jnp.einsum("htv,hvo->to", alpha @ v, weights.out)

    paths = jax.jacrev(layer, argnums=(0, 1, 2))(x, x, x)
    tables = [*paths, sum(paths)]  # each (T, O, T, D)
    if norm == "frobenius":
        return jnp.stack([jnp.sqrt((table**2).sum((1, 3))) for table in tables])
    # One call for all four: see sensitivity._lapack.
    blocks = jnp.stack([jnp.moveaxis(table, 2, 1) for table in tables])
    return jnp.linalg.svd(blocks, compute_uv=False)[..., 0]


def _torch_call(
    x: np.ndarray, kernels: dict[str, np.ndarray], norm: str
) -> Callable[[], Any]:
    # By name: a type checker must not ask for a library that is not a dependency.
    torch: Any = importlib.import_module("torch")

    inputs = torch.from_numpy(x)
    w = {name: torch.from_numpy(kernel) for name, kernel in kernels.items()}

    def layer(x_q: Any, x_k: Any, x_v: Any) -> Any:
        q = torch.einsum("td,dhk->htk", x_q, w["query"])
        k = torch.einsum("td,dhk->htk", x_k, w["key"])
        v = torch.einsum("td,dhv->htv", x_v, w["value"])
        alpha = torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1)
        if "out" not in w:
            return (alpha @ v)[0]
        return torch.einsum("htv,hvo->to", alpha @ v, w["out"])

    jacobians = torch.func.jacrev(layer, argnums=(0, 1, 2), chunk_size=1024)

    def call() -> Any:
        paths = jacobians(inputs, inputs, inputs)
        tables = [*paths, sum(paths)]
        if norm == "frobenius":
            norms = [torch.linalg.vector_norm(table, dim=(1, 3)) for table in tables]
        else:
            norms = [
                torch.linalg.svdvals(table.movedim(2, 1))[..., 0] for table in tables
            ]
        return torch.stack(norms)

    return call
