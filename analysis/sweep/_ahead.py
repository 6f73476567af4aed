"""What is measured later is compiled in other threads while a point is measured."""

import concurrent.futures
from collections.abc import Iterable
from typing import Any, Self

from analysis.sweep._points import Layers, Point
from models.runs.environment import cores


class Ahead:
    """Compiles what points need, the first of each kind, in their order."""

    def __init__(self, layers: Layers, points: Iterable[Point], options: dict):
        self._layers, self._options = layers, options
        self._pool = concurrent.futures.ThreadPoolExecutor(min(2, cores()))
        self._kinds: dict[Any, concurrent.futures.Future] = {}
        for point in points:
            kind = layers.kind(point)
            if kind is not None and kind not in self._kinds:
                self._kinds[kind] = self._pool.submit(self._compile, point)

    def __enter__(self) -> Self:
        """The same, left at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Compile nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def wait_for(self, point: Point) -> None:
        """Until what a point needs is compiled; what is wrong with it comes later."""
        if (compiled := self._kinds.get(self._layers.kind(point))) is not None:
            concurrent.futures.wait([compiled])

    def _compile(self, point: Point) -> None:
        from sensitivity.bounds import compile_measure

        layer = self._layers.inputs(point).layer
        compile_measure(
            layer.x,
            layer.weights,
            score_bias=layer.score_bias,
            residual=layer.residual,
            **self._options,
        )
