"""The same forecaster written by hand in PyTorch, to measure a training step against.

Same layers, sizes, dropout, loss and optimiser as ours. PyTorch is no dependency: it is
imported where something is built, and nothing here is built where it is missing.
"""

import importlib
from collections.abc import Callable
from typing import Any

from data import Batch, Scaler
from models.config import ForecasterConfig, TemporalConfig
from models.early_stopping import Recipe


def torch_forecaster(config: ForecasterConfig) -> Any:
    """The attention-GCN stack, from speeds (B, T, N) to those that follow (B, H, N)."""
    written = ForecasterConfig(
        nodes=config.nodes,
        window=config.window,
        horizon=config.horizon,
        width=config.width,
        layers=config.layers,
        dropout=config.dropout,
        temporal=TemporalConfig(heads=config.temporal.heads),
    )
    if config != written:
        raise ValueError(
            "config must be the reference's but for sizes and dropout, which is all "
            f"that is written in PyTorch: {written}, got {config}."
        )
    torch: Any = importlib.import_module("torch")
    nn = torch.nn
    D, T, N = config.width, config.window, config.nodes
    hops, embedding = config.graph.hops, config.graph.embedding

    class Block(nn.Module):
        """One temporal and one graph layer."""

        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(
                D, config.temporal.heads, dropout=config.dropout, batch_first=True
            )
            self.time_clock, self.space_clock = nn.Linear(1, D), nn.Linear(1, D)
            self.time_norm, self.space_norm = nn.LayerNorm(D), nn.LayerNorm(D)
            self.one = nn.Parameter(torch.randn(N, embedding))
            self.two = nn.Parameter(torch.randn(N, embedding))
            self.mix = nn.Linear((1 + 2 * hops) * D, D)
            self.drop = nn.Dropout(config.dropout)

        def forward(self, x: Any, clock: Any) -> Any:
            """Mix the steps, then the nodes, of x (B, N, T, D)."""
            rows = x.flatten(0, 1)
            mixed = self.attention(rows, rows, rows, need_weights=False)[0]
            mixed = mixed.view_as(x) + self.time_clock(clock)
            x = self.time_norm(x + self.drop(mixed))
            features = [x]
            for scores in (self.one @ self.two.T, self.two @ self.one.T):
                adjacency, near = torch.softmax(torch.relu(scores), -1), x
                for _ in range(hops):
                    near = torch.einsum("nm,bmtd->bntd", adjacency, near)
                    features.append(near)
            mixed = self.drop(self.mix(torch.cat(features, -1)))
            return self.space_norm(x + self.drop(mixed + self.space_clock(clock)))

    class Forecaster(nn.Module):
        """The whole stack."""

        def __init__(self) -> None:
            super().__init__()
            self.lift = nn.Linear(1, D)
            self.blocks = nn.ModuleList(Block() for _ in range(config.layers))
            self.read = nn.Linear(D + 1, 1)
            self.ahead = nn.Linear(T, config.horizon)
            self.drop = nn.Dropout(config.dropout)
            frequency = 10000.0 ** (-torch.arange(0, D, 2) / D) * D / T
            angle = torch.arange(T)[:, None] * frequency
            encoding = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :D]
            self.register_buffer("encoding", encoding)

        def forward(self, speeds: Any, time_of_day: Any) -> Any:
            """Forecast."""
            clock = time_of_day[:, None, :, None]  # (B, 1, T, 1)
            x = self.drop(self.lift(speeds.mT[..., None]) + self.encoding)
            for block in self.blocks:
                x = block(x, clock)
            clocks = clock.expand(*x.shape[:-1], 1)
            steps = self.read(torch.cat([x, clocks], -1))[..., 0]  # (B, N, T)
            return self.ahead(steps).mT

    return Forecaster()


def torch_training_step(
    model: Any, recipe: Recipe, scaler: Scaler, batch: Batch, rate: float
) -> Callable[[], float]:
    """A call that does one step, always on these windows, and gives its loss in mph."""
    torch: Any = importlib.import_module("torch")
    speeds, clock, targets = (
        torch.tensor(array)
        for array in (batch.speeds, batch.time_of_day, batch.targets)
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=recipe.weight_decay
    )
    mean, deviation = float(scaler.mean[0]), float(scaler.deviation[0])
    observed = targets != 0

    def step() -> float:
        errors = (model(speeds, clock) * deviation + mean - targets).abs()
        loss = (errors * observed).sum() / observed.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        return loss.item()

    return step
