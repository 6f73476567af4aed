"""What a training run is asked to do, checked when it is written down."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from models.train.groups import DataOptions, FitOptions, ModelOptions

Preset = Literal["small", "paper"]
PLACES = ("data", "adjacency")
_NO_IDENTITY = (
    *("preset", "out", "resume", "overwrite", "predictions", "keep_epochs"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Train a forecaster of traffic speeds, several seeds at once, and test it.

    Attributes:
        preset: Defaults of the options below and nothing else: a small model, or the
            paper's (width 72, 8 heads, 12 layers, batch 128, learning rate 0.001, 150
            epochs, warm-up 5; the reference's config has learning rate 0.0002, penalty
            -0.05, and its code --split time --fill zero --graph diagonal).
        series: The data.
        model: The forecaster.
        fit: How it is trained.
        out: Folder for the results.
        resume: Whether to go on with the same run in that folder, if there is one.
            With --epochs 0 nothing is trained: what it has reached is tested again.
        overwrite: Whether to replace a run in that folder.
        predictions: Whether to keep the test forecasts of every seed (mph).
        keep_epochs: Epochs after which the weights are kept for good, beside the
            checkpoint; 0 is before training. ``python -m sensitivity.sweep
            --checkpoint RUN --weights kept`` looks at them.
    """

    preset: Preset = "small"
    series: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = ModelOptions()
    fit: Annotated[FitOptions, tyro.conf.arg(name="")] = FitOptions()
    out: Path = Path("runs/train")
    resume: bool = False
    overwrite: bool = False
    predictions: bool = False
    keep_epochs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: Naming the options.
        """
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite exclude each other; drop one.")
        if self.series.adjacency is not None and self.model.graph != "road":
            raise ValueError(
                f"--adjacency needs --graph road, got {self.model.graph!r}."
            )
        kept, epochs = self.keep_epochs, self.fit.epochs
        most = float("inf") if self.resume and epochs == 0 else epochs
        if len(set(kept)) < len(kept) or not all(0 <= one <= most for one in kept):
            raise ValueError(
                f"--keep-epochs must lie in 0 to --epochs ({epochs}) and not repeat, "
                f"got {list(kept)}."
            )
        self.model.config(
            nodes=1,
            window=self.series.window,
            horizon=self.series.horizon,
            time_of_week=self.series.time_of_week,
        )

    def identity(self) -> dict:
        """What a run is asked for, but for how and where it is done.

        Returns:
            Arguments by name, as JSON holds them. Two runs are the same where these
            are, but for the places in `PLACES`, of whose files the content counts.
        """
        arguments = dataclasses.asdict(self)
        groups = [arguments.pop(name) for name in ("series", "model", "fit")]
        for name in _NO_IDENTITY:
            del arguments[name]
        for group in groups:
            arguments |= group
        for name in ("seeds_at_once", "devices"):
            del arguments[name]
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in arguments.items()
        }


PRESETS: dict[str, TrainOptions] = {
    "small": TrainOptions(),
    "paper": TrainOptions(
        preset="paper",
        model=ModelOptions(layers=12, width=72, heads=8, dropout=0.1),
        fit=FitOptions(epochs=150, batch_size=128, learning_rate=0.001, warmup=5),
    ),
}
