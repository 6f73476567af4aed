"""Numbers in the pages agree, as far as they are written out, with what they are from.

A table or a sentence may stand on any of the pages; where it stands it is compared.
"""

import math
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"
PAGES = [p for p in (ROOT / "README.md", FIGURES / "README.md") if p.exists()]
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"

# What a table of a page calls a row, and what its source does.
FORECASTERS = {
    "(a) no residual": "(a) No residual",
    "(b) no regularization": "(b) No regularization",
    "(c) full diagonal mask": "(c) Full diagonal mask",
    "(d) diagonal dropout": "(d) Diagonal dropout",
    "(e) diagonal penalty": "(e) Diagonal penalty",
    "(f) query penalty": "(f) Query penalty",
    "(g) spectrum penalty, eigenvalues": (
        "(g) Spectrum penalty, spectrum size eigenvalues"
    ),
    "(g) spectrum penalty, norm": "(g) Spectrum penalty, spectrum size norm",
    "(h) head norm": "(h) Head norm",
    "(i) learned mask": "(i) Learned mask",
    "(j) conjoint attention": "(j) Conjoint attention",
    "(k) softmax-1": "(k) Softmax-1",
    "(b), graph diagonal": "(b) No regularization, graph diagonal",
    "(b), graph conjoint": "(b) No regularization, graph conjoint",
    "last value": "last value",
    "time-of-week average": "time of week",
    "ridge on the window and that average": "ridge",
}
LAYERS = {
    "mean alpha_ii": "diagonal share",
    "value path": "value",
    "key path": "key",
    "query path": "query",
    "parroting ratio": "parroting ratio",
    "with the residual": "with residual",
}


CHANGES = {
    "diagonal share": "diagonal share",
    "value path": "value",
    "key path": "key",
    "query path": "query",
    "parroting ratio": "parroting ratio",
    "entropy (nats)": "attention entropy (nats)",
}


def agree(shown: str, source: str) -> bool:
    """Whether numbers are those of the source, rounded to what is written out."""
    # A source that is rounded itself may be off by half of its last digit.
    pairs = [re.findall(NUMBER, text) for text in (shown, source)]
    if len(pairs[0]) != len(pairs[1]):
        return False
    return all(
        abs(float(one) - float(two)) <= (half(one) + half(two)) * (1 + 1e-9)
        for one, two in zip(*pairs, strict=True)
    )


def half(number: str) -> float:
    """Half a unit of the last digit that counts; a bare 0 is exact."""
    digits, _, exponent = number.partition("e")
    whole, _, decimals = digits.partition(".")
    if not decimals and not int(whole):
        return 0.0
    zeros = 0 if decimals else len(whole) - len(whole.rstrip("0"))
    return 0.5 * 10.0 ** (zeros - len(decimals) + int(exponent or 0))


def markdown_tables(path: Path) -> list[list[dict[str, str]]]:
    """The tables of a page as rows of cells, without bold and italics."""
    blocks: list[list[list[str]]] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            cells = line.strip().strip("|").split("|")
            blocks[-1].append([cell.strip().strip("*") for cell in cells])
        elif blocks[-1]:
            blocks.append([])
    return [
        [dict(zip(names, row, strict=True)) for row in rows]
        for names, rule, *rows in (block for block in blocks if len(block) > 1)
        if not "".join(rule).strip("-:")
    ]


def cells_below(column: str) -> list[tuple[str, str, str]]:
    """Row, column and cell, of all tables that have a column of this pattern."""
    tables = (table for page in PAGES for table in markdown_tables(page))
    found = [t for t in tables if any(re.fullmatch(column, name) for name in t[0])]
    assert found, f"no page has a table with a column {column!r}"
    rows = [[*row.items()] for table in found for row in table]
    return [(row[0][1], name, cell) for row in rows for name, cell in row[1:]]


def errors(name: str) -> dict[Any, dict[Any, float]]:
    """Errors of a table of runs, by variant, metric and step."""
    table: pd.DataFrame = pd.read_csv(FIGURES / name)
    return table.set_index(["variant", "metric", "horizon"]).to_dict("index")


def attention(layer: str) -> dict[str, dict[str, str]]:
    """Trained attention by variant; the row below one is its difference to (b)."""
    text = (FIGURES / "attention-variants.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*), Frobenius norm$", text, re.MULTILINE)
    found, above = {}, ""
    for row in markdown_tables(FIGURES / "attention-variants.md")[titles.index(layer)]:
        name = row["variant"]
        found[f"{above}, minus (b)" if name.startswith("minus") else name] = row
        above = name
    return found


def test_errors_of_forecasters_are_those_of_the_runs():
    source = errors("table-12-12.csv")
    for label, column, cell in cells_below(r"minus \(b\) at \d+, .*"):
        row = source[FORECASTERS[label], "mae", re.findall(r"\d+", column)[0]]
        wanted = "difference low high" if "minus" in column else "mean std"
        known = [row[name] for name in wanted.split() if not math.isnan(row[name])]
        assert agree(cell, " ".join(map(repr, known))), (label, column)


def test_paths_of_trained_layers_are_those_that_were_measured():
    source = attention("Mean over layers")
    for label, column, cell in cells_below("mean alpha_ii"):
        known = source[FORECASTERS[label]][LAYERS[column]]
        assert agree(cell, known), (label, column)


def test_what_the_cures_did_is_what_was_measured():
    source, of_errors = attention("Mean over layers"), errors("table-12-12.csv")
    for label, column, shown in cells_below(r"MAE at step 12"):
        cell = shown.replace("*", "")
        if label == "(b) itself":
            known = (
                repr(at_steps("(b) No regularization")[2])
                if column.startswith("MAE")
                else source["(b) No regularization"][CHANGES[column]]
            )
        elif column.startswith("MAE"):
            row = of_errors[FORECASTERS[label], "mae", "12"]
            known = " ".join(repr(row[name]) for name in ("difference", "low", "high"))
        else:
            known = source[f"{FORECASTERS[label]}, minus (b)"][CHANGES[column]]
        assert agree(cell, known), (label, column, cell, known)


def test_measures_of_b_are_those_that_were_measured():
    (table,) = (
        t for t in markdown_tables(FIGURES / "measures.md") if "measure" in t[0]
    )
    source = {row["measure"]: row["(b) No regularization"] for row in table}
    found = [
        (label, cell)
        for label, column, cell in cells_below(r"\(b\), mean \[95 % interval\]")
        if column.startswith("(b)")
    ]
    assert {label for label, _ in found} == {*source}
    for label, cell in found:
        assert agree(cell, source[label]), (label, cell, source[label])


def step_36(variant: str) -> float:
    """MAE at the last step, 36 to 36."""
    return errors("table-36-36.csv")[variant, "mae", "36"]["mean"]


def at_steps(variant: str) -> list[float]:
    """MAE at steps 3, 6 and 12, 12 to 12."""
    source = errors("table-12-12.csv")
    return [source[variant, "mae", step]["mean"] for step in ("3", "6", "12")]


def certificates(name: str, column: str) -> list[float]:
    """A column of numbers of a certificate, a row per variant."""
    (table,) = markdown_tables(FIGURES / "certificates.md")
    rows = (row for row in table if row["certificate"] == name)
    return sorted(float(row[column]) for row in rows if row["variant"][1] in "abcde")


def looseness(name: str) -> float:
    """How many times too large a certificate is, in the median."""
    return 1 / statistics.median(certificates(name, "exact / bound, median"))


def ends(column: str) -> list[float]:
    """The smallest and the largest number of the sharpest certificate."""
    found = certificates("column_sum", column)
    return [found[0], found[-1]]


def spread(layer: str, variant: str, column: str) -> list[float]:
    """A number with both ends of its interval."""
    return [float(x) for x in re.findall(NUMBER, attention(layer)[variant][column])]


def predictor(measure: str, influence: str) -> list[float]:
    """A rank correlation with its interval."""
    table = next(
        t for t in markdown_tables(FIGURES / "predictors.md") if "measure" in t[0]
    )
    row = next(row for row in table if row["measure"] == measure)
    return [float(x) for x in re.findall(NUMBER, row[influence])]


def lowered_alpha() -> list[float]:
    """By how much the penalty lowers attention to the own step in layer 0."""
    variant = "(e) Diagonal penalty, minus (b)"
    mean, low, high = spread("Layer 0", variant, "diagonal share")
    return [-mean, -high, -low]


SENTENCES = {
    r"\(b\) without regularization {} / {} / {}, ridge {} / {} / {}\.": lambda: [
        *at_steps("(b) No regularization"),
        *at_steps("ridge"),
    ],
    r"time-of-week average \(MAE {} at step 36\) beats the ridge \({}\)": lambda: [
        step_36(name) for name in ("time of week", "ridge")
    ],
    r"\(b\) {} and \(e\) {}, one seed each": lambda: [
        step_36(name) for name in ("(b) No regularization", "(e) Diagonal penalty")
    ],
    r"by a hair, {} mph of the penalty at step 3": lambda: [
        errors("table-12-12.csv")["(e) Diagonal penalty", "mae", "3"]["difference"]
    ],
    r"second singular value over its prediction \({} \[{}, {}\]\)": (
        lambda: predictor("s2 / prediction", "parroting ratio")
    ),
    r"similarity of queries \({} \[{}, {}\]\)": (
        lambda: predictor("query similarity", "parroting ratio")
    ),
    r"which the paper's cures act on, has {} \[{}, {}\]": (
        lambda: predictor("diagonal share", "parroting ratio")
    ),
    r"contraction of the values \({} \[{}, {}\]\)": lambda: predictor(
        "contraction of the spread", "query path, share of the diagonal"
    ),
    r"the query path is {} \[{}, {}\], {} \[{}, {}\] against \(b\) by seed": lambda: [
        *spread("Mean over layers", "(c) Full diagonal mask", "query"),
        *spread("Mean over layers", "(c) Full diagonal mask, minus (b)", "query"),
    ],
    r"lowers alpha_ii by {} \[{}, {}\]": lowered_alpha,
    r"of {} samples of the paper's variants .* `column_sum`, is {} times": lambda: [
        sum(certificates("column_sum", "samples")),
        looseness("column_sum"),
    ],
    r"\(exact {} to {}, bound {} to {}\), Castin et al.'s {} times": lambda: [
        *ends("exact, median"),
        *ends("bound, median"),
        looseness("castin"),
    ],
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_numbers_of_a_sentence_are_those_of_the_source(sentence):
    known = " ".join(f"{number:.6g}" for number in SENTENCES[sentence]())
    pattern = sentence.replace("{}", f"({NUMBER})")
    texts = (" ".join(page.read_text(encoding="utf-8").split()) for page in PAGES)
    found = [match.groups() for text in texts for match in re.finditer(pattern, text)]
    assert found, "no page says so; change the sentence here too, or take it out"
    for numbers in found:
        assert agree(" ".join(numbers), known), (numbers, known)


@pytest.mark.parametrize(
    ("shown", "source", "expected"),
    [
        ("0.081 [0.074, 0.088]", "0.0814 [0.0743, 0.0884]", True),
        ("0.082 [0.074, 0.088]", "0.0814 [0.0743, 0.0884]", False),
        ("0.081", "0.0814 [0.0743, 0.0884]", False),
        ("3.279 ± 0.010", "3.2787 0.01012", True),
        ("-0.022", "0.022", False),
        ("110", "114.8", True),
        ("110", "116", False),
        ("0", "0.3", False),
        ("", "", True),
    ],
)
def test_only_what_rounds_to_it_agrees(shown, source, expected):
    assert agree(shown, source) is expected


@pytest.mark.slow
def test_the_default_sweep_says_what_the_readme_expects(tmp_path):
    program = [
        sys.executable,
        "-m",
        "sensitivity.sweep",
        "--out",
        str(tmp_path / "out"),
    ]
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True)
    table = pd.read_csv(tmp_path / "out" / "verdicts.csv").set_index("statement")
    table = table[table["level"] == "layer"]
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for name in (
        "eq8_off_diagonal",
        "eq8_diagonal_as_printed",
        "eq8_diagonal_corrected",
        "eq8_diagonal_tight",
    ):
        row = table.loc[name]
        pattern = rf"`{name}`(?: to hold)? in (\d+) of (\d+)"
        expected = re.search(pattern, text)
        assert expected is not None, name
        found = (str(row["rows_holding"]), str(row["rows"]))
        assert expected.groups() == found, name
    exponent = table.loc["eq8_off_diagonal", "exponent"]
    assert f"rows with exponent {exponent:.2f}," in text
    medians = looseness_by_length(tmp_path / "out" / "sweep.csv")
    ends = {name: (min(row), max(row)) for name, row in medians.items()}
    said = re.search(
        rf"in the median it is ({NUMBER}) to ({NUMBER}) times.* say how much: "
        rf"({NUMBER}) times the influence off the diagonal and ({NUMBER}) to "
        rf"({NUMBER}) times on it",
        text,
    )
    assert said is not None
    low, high, off, tight_low, tight_high = said.groups()
    for shown, (least, most) in (
        ((low, high), ends["eq8_diagonal_corrected"]),
        ((off, off), ends["eq8_off_diagonal_tight"]),
        ((tight_low, tight_high), ends["eq8_diagonal_tight"]),
    ):
        assert agree(" ".join(shown), f"{least:.6f} {most:.6f}"), shown
    lines = {label: row for label, *row in lines_by_length()}
    for name, row in medians.items():
        known = lines[f"random, `{name}`"]
        assert agree(" ".join(known), " ".join(f"{x:.6f}" for x in row)), name


LINES = (
    *("eq8_off_diagonal", "eq8_off_diagonal_tight"),
    *("eq8_diagonal_corrected", "eq8_diagonal_tight"),
)


def looseness_by_length(path: Path) -> dict[str, list[float]]:
    """How many times the influence bounds are, medians over cases, by length."""
    table = pd.read_csv(path, dtype={"head": str})
    table = table[table["head"] == "layer"]
    medians = 1 / table.groupby(["statement", "T"])["median_ratio"].median()
    return {name: medians[name].tolist() for name in LINES}


def lines_by_length() -> list[list[str]]:
    """The rows of the table of bound / exact by length."""
    tables = [t for page in PAGES for t in markdown_tables(page)]
    (found,) = (t for t in tables if "T = 8" in t[0])
    return [[*row.values()] for row in found]
