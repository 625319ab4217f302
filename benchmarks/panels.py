"""Small multiples in the one style of the pages, each picture once for light and once for dark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from drawing.palette import FONTS, MODES, Palette
from measure import HERE
from runs import Record

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullLocator

TARGET = HERE.parent / "docs" / "benchmarks"

#: Points. On a page 400 pixels wide a picture has 360: then a point is 0.95 of them.
WIDTH = 380

#: Points of text: of a picture's title, of what is in it, and of the lines below it.
TITLE, TEXT, SMALL = 13, 11, 9.5

#: Draws into the panels of one mode.
Paint = Callable[[Sequence[Any], Palette], None]


def style(palette: Palette) -> Any:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "gzmqsource",
        "font.family": ["DejaVu Sans"],
        "font.size": TEXT,
        "axes.titlesize": TEXT,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": SMALL + 0.5,
        "axes.labelcolor": palette.muted,
        "axes.edgecolor": palette.faint,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "text.color": palette.ink,
        "xtick.color": palette.faint,
        "ytick.color": palette.faint,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.ink,
        "xtick.labelsize": SMALL + 0.5,
        "ytick.labelsize": SMALL + 0.5,
        "grid.color": palette.faint,
        "grid.linewidth": 0.6,
        "figure.facecolor": palette.paper,
        "savefig.facecolor": palette.paper,
        "lines.linewidth": 2,
        "lines.markersize": 5,
        "legend.frameon": False,
        "legend.fontsize": SMALL + 0.5,
    }


def picture(
    name: str,
    title: str,
    footer: Sequence[str],
    paint: Paint,
    *,
    height: float,
    rows: int = 1,
    columns: int = 1,
    share_y: bool = True,
) -> None:
    """Draw a picture of *rows* times *columns* panels, with a title above and lines below."""
    for palette in MODES:
        above, below = 1.8 * TITLE / height, 1.4 * SMALL * len(footer) / height
        between = ConstrainedLayoutEngine(
            rect=(0.005, below, 0.985, 1 - above - below), w_pad=0.06, h_pad=0.06
        )
        with mpl.rc_context(style(palette)):
            figure, axes = plt.subplots(
                rows,
                columns,
                figsize=(WIDTH / 72, height / 72),
                layout=between,
                sharey=share_y,
                squeeze=False,
            )
            paint(list(axes.flatten()), palette)
            figure.text(0.012, 1 - 0.4 * TITLE / height, title, va="top", size=TITLE, weight="bold")
            for line, text in enumerate(reversed(footer)):
                at = (0.4 + 1.35 * line) * SMALL / height
                figure.text(0.012, at, text, va="bottom", size=SMALL, color=palette.muted)
            save(figure, f"{name}{palette.suffix}")


def save(figure: Any, name: str) -> None:
    path = TARGET / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # The fonts of the page in place of the one that the text was measured with, which is wider.
    text = path.read_text().replace("'DejaVu Sans'", FONTS)
    path.write_text("".join(line.rstrip() + "\n" for line in text.splitlines()))


def number(value: float) -> str:
    """Return three digits at most, never with an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = 2 - max(0, math.floor(math.log10(value))) if value else 0
    return f"{value:.{min(2, digits)}f}"


def bars(
    axes: Any,
    palette: Palette,
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str = "",
    unit: str = "",
    most: float | None = None,
) -> None:
    """Draw a bar for each name, first on top, with the least and the most of its repeats."""
    medians = [statistics.median(values) for _, values in rows]
    spread = [
        [middle - min(values) for middle, (_, values) in zip(medians, rows, strict=True)],
        [max(values) - middle for middle, (_, values) in zip(medians, rows, strict=True)],
    ]
    longest = most or max(max(values) for _, values in rows)
    for index, ((name, values), median) in enumerate(zip(rows, medians, strict=True)):
        axes.barh(index, median, 0.72, color=palette.of(name))
        text = number(median)
        axes.annotate(
            text,
            (max(*values, median), index),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            size=SMALL + 0.5,
        )
    axes.errorbar(
        medians, range(len(rows)), xerr=spread, fmt="none", ecolor=palette.ink, elinewidth=1
    )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, longest * 1.3)
    axes.xaxis.set_major_locator(plt.MaxNLocator(3))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set(title=title, xlabel=unit)


def lines(
    axes: Any,
    points: Sequence[tuple[float, Sequence[float]]],
    *,
    color: str,
    label: str | None = None,
    marker: str = "o",
    dashes: str = "-",
) -> None:
    """Draw medians as a line, with the least and the most of the repeats."""
    at = [x for x, _ in points]
    medians = [statistics.median(values) for _, values in points]
    spread = [
        [middle - min(values) for middle, (_, values) in zip(medians, points, strict=True)],
        [max(values) - middle for middle, (_, values) in zip(medians, points, strict=True)],
    ]
    axes.errorbar(
        at,
        medians,
        yerr=spread,
        color=color,
        label=label,
        marker=marker,
        linestyle=dashes,
        elinewidth=1,
    )


def from_zero(panels: Sequence[Any]) -> None:
    """Let the y axes begin with 0, once everything is drawn."""
    for axes in panels:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.1)


def counts(axes: Any, numbers: Sequence[int], label: str = "") -> None:
    """Make the x axis one of counts, each ten times the one before: a logarithmic one."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(numbers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(numbers), [short(one) for one in numbers])
    axes.grid(axis="y")
    axes.set_xlabel(label)


def short(count: int) -> str:
    return f"{count // 1000}k" if count >= 1000 else str(count)


def footer(records: Sequence[Record], figure: str) -> list[str]:
    """Return the lines below a picture: with what was measured, where, and how often."""
    often = max(len(one.figures[figure]) for one in records if figure in one.figures)
    drawn = f"median of {often} runs, with the least and the most" if often > 1 else "medians"
    return [*records[0].run.footer(), drawn]


def repeats(one: Record, figure: str, factor: float = 1) -> list[float]:
    return [value * factor for value in one.figures[figure]]
