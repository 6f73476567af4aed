"""The picture of a sweep says with words what its numbers say."""

import io
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.plots.bounds import bound_against_length

PANELS = {
    "eq8_off_diagonal": lambda T: (1 / T, 3 / T),
    "eq8_off_diagonal_tight": lambda T: (1 / T, 1.5 / T),
    "eq8_diagonal_corrected": lambda T: (2 + 0 * T, 2.5 * T),
    "eq8_diagonal_tight": lambda T: (2 + 0 * T, 3 + 0 * T),
    "eq8_diagonal_as_printed": lambda T: (2 + 0 * T, 16 / T),
}


def rows(lengths: tuple[int, ...] = (4, 8, 16, 32), seeds=3) -> pd.DataFrame:
    """A made-up sweep: 1 / T off the diagonal, and a printed line that fails late."""
    table = []
    for T, seed, head in itertools.product(lengths, range(seeds), ("0", "layer")):
        factor = (1 if head == "layer" else 50) * (1 + 0.1 * seed)  # heads: not drawn
        for statement, sides in PANELS.items():
            exact, bound = (factor * side for side in sides(np.float64(T)))
            holding = T if exact <= bound else T - 1
            table.append((T, seed, head, statement, exact, bound, T, holding))
    columns = ["T", "seed", "head", "statement", "exact", "bound", "rows"]
    frame = pd.DataFrame(table, columns=[*columns, "rows_holding"])
    frame["median_ratio"] = frame["exact"] / frame["bound"]
    return frame.assign(
        source="gaussian", position="none", regularizer="none", norm="spectral"
    )


def axes_of(table) -> Any:
    """The two panels, drawn for real."""
    figure = bound_against_length(table)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert len(figure.axes) == 2
    return figure.axes


def legend(ax):
    """The words of a panel's legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def dashed(ax):
    """The bounds of a panel, by their labels."""
    lines = [line for line in ax.lines if line.get_linestyle() != "-"]
    lines = [line for line in lines if line not in crosses(ax)]
    assert len({line.get_color() for line in lines}) == len(lines)
    return {str(line.get_label()).split("$")[0].strip(): line for line in lines}


def crosses(ax):
    """The marks of a panel at lengths where a bound is exceeded."""
    return [line for line in ax.lines if line.get_marker() in ("X", "x")]


def test_axes_are_logarithmic_and_labelled_in_words():
    table = rows()
    left, right = axes_of(table)
    for ax in (left, right):
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert "time steps" in ax.get_xlabel()
        ticks = [label.get_text() for label in ax.get_xticklabels()]
        assert ticks == ["4", "8", "16", "32"]
    assert "norm" in left.get_ylabel()
    title = left.figure.get_suptitle()
    assert all(word in title for word in ("gaussian", "spectral", "3 layers"))


@pytest.mark.parametrize(
    ("source", "position", "named"),
    [
        ("gaussian", "none", False),
        ("gaussian", "tape", True),
        ("metr-la", "none", True),
        ("metr-la", "sinusoidal", True),
    ],
)
def test_the_title_names_the_position_encoding_where_it_matters(
    source, position, named
):
    left, _ = axes_of(rows().assign(source=source, position=position))
    title = left.figure.get_suptitle()
    assert (f"position {position}" in title) == named
    assert ("position" in title) == named


def test_titles_tell_the_finding():
    left, right = axes_of(rows())
    assert left.get_title().startswith("Off the diagonal")
    assert "falls" in left.get_title()
    assert "both bounds hold" in left.get_title()
    assert right.get_title().startswith("On the diagonal")
    assert "Eq. 8 as printed fails" in right.get_title()
    assert "falls" not in right.get_title()


def test_legends_name_the_bounds_and_their_exponents():
    left, right = axes_of(rows())
    assert any("exact" in words and "-1.00" in words for words in legend(left))
    assert any("Eq. 8" in words and "-1.00" in words for words in legend(left))
    assert any("Eq. 8 as printed" in words for words in legend(right))
    assert any("corrected" in words for words in legend(right))
    assert any("exceeded" in words for words in legend(right))
    assert not any("exceeded" in words for words in legend(left))


def test_legends_say_how_many_times_the_influence_a_bound_is():
    left, right = axes_of(rows())
    said = {words.split(":")[0].split(" $")[0]: words for words in legend(right)}
    assert "5.0 to 40 $" in said["corrected bound"]
    assert ": 1.5 $" in said["tight bound"]
    assert any("3.0 $" in words for words in legend(left) if "Eq. 8" in words)


def test_lines_are_means_of_the_layer_over_seeds_and_bounds_are_dashed():
    left, right = axes_of(rows())
    T = np.array([4, 8, 16, 32])
    solid = [line for line in left.lines if line.get_linestyle() == "-"]
    assert len(solid) == 1
    np.testing.assert_allclose(solid[0].get_xdata(), T)
    np.testing.assert_allclose(solid[0].get_ydata(), 1.1 / T)
    assert dashed(left).keys() == {"Eq. 8 as printed", "tight bound"}
    np.testing.assert_allclose(dashed(left)["Eq. 8 as printed"].get_ydata(), 3.3 / T)
    np.testing.assert_allclose(dashed(left)["tight bound"].get_ydata(), 1.65 / T)
    np.testing.assert_allclose(dashed(right)["corrected bound"].get_ydata(), 2.75 * T)
    np.testing.assert_allclose(dashed(right)["tight bound"].get_ydata(), 3.3)
    band = left.collections[0].get_paths()[0].vertices[:, 1]  # lowest to highest seed
    np.testing.assert_allclose([band.min(), band.max()], [1 / 32, 1.2 / 4])


def test_crosses_stand_at_the_violated_lengths_only():
    left, right = axes_of(rows())
    assert crosses(left) == []
    (marks,) = crosses(right)
    assert list(marks.get_xdata()) == [16, 32]
    assert marks.get_color() == dashed(right)["Eq. 8 as printed"].get_color()
    assert [text.get_text() for text in right.texts] == ["6 %", "3 %"]  # 1 / T


def steep(factor: float) -> pd.DataFrame:
    """Influence falls fast, and the printed bound is below or above it."""
    table = rows()
    diagonal = table["statement"].str.startswith("eq8_diagonal")
    table.loc[diagonal, "exact"] = 90 / table["T"] ** 2.0
    table.loc[diagonal, "bound"] = factor * table["exact"]
    table["rows_holding"] = table["rows"] - diagonal
    return table


@pytest.mark.parametrize(
    "table",
    [rows(), rows((8,)), steep(0.8), steep(1.1), steep(0.8).assign(regularizer="mask")],
)
def test_nothing_overlaps_and_nothing_touches_the_edge(table):
    axes = axes_of(table)
    figure = axes[0].figure
    figure.draw_without_rendering()
    whole = figure.bbox.padded(-4)
    titles = [ax.title.get_window_extent() for ax in axes]
    assert not titles[0].padded(4).overlaps(titles[1])
    for ax, title in zip(axes, titles, strict=True):
        legend_box = ax.get_legend().get_window_extent()
        for box in (title, legend_box):
            assert whole.containsx(box.x0)
            assert whole.containsx(box.x1)
        for text in ax.texts:
            box = text.get_window_extent()
            for line in ax.lines:
                path = line.get_transform().transform_path(line.get_path())
                assert not path.intersects_bbox(box, filled=False)
            others = [other for other in ax.texts if other is not text]
            assert not any(box.overlaps(o.get_window_extent()) for o in others)


@pytest.mark.parametrize("lengths", [(8,), (8, 16)])
def test_few_lengths_are_drawn_without_an_exponent(lengths):
    for ax in axes_of(rows(lengths, seeds=1)):
        assert not any("T^" in words for words in legend(ax))
        assert [t.get_text() for t in ax.get_xticklabels()] == [str(T) for T in lengths]


def test_an_axis_of_less_than_a_decade_has_ticks_too():
    table = rows((8, 16), seeds=1)
    table[["exact", "bound"]] = 1 + table[["exact", "bound"]] / 40
    for ax in axes_of(table):
        low, high = ax.get_ylim()
        assert high < 5 * low
        assert sum(low <= tick <= high for tick in ax.get_yticks()) >= 2


def test_a_single_step_has_nothing_off_the_diagonal_and_is_drawn():
    table = rows((1,))
    off = table["statement"].str.startswith("eq8_off_diagonal")
    table.loc[off, ["exact", "bound", "median_ratio"]] = np.nan
    table.loc[off, ["rows", "rows_holding"]] = 0
    left, right = axes_of(table)
    assert "no influence" in left.get_title()
    assert "holds" not in left.get_title()
    assert right.get_title()
