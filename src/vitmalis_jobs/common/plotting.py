"""Figures of all jobs: one palette, one canvas, files that appear whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmalis.paths import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY_BLUE, PURPLE, GREY, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#999999", "#F0E442", "#000000"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY_BLUE, PURPLE, GREY, YELLOW, BLACK)
"""Okabe and Ito's palette, with grey: colour-blind readers can tell the colours apart, also in print."""
LINE_STYLES, HATCHES, MARKERS = ("-", "--", ":"), ("", "///", "..."), ("o", "s", "^")
"""What tells series of equal colour apart, for each pass through the palette."""


def colour(position: int) -> str:
    """Colour of the series at this position, from 0; colours repeat after the last one, with another `line_style`."""
    return PALETTE[position % len(PALETTE)]


def line_style(position: int) -> str:
    """Line style of the series at this position: solid, then dashed and dotted for colours that repeat."""
    return LINE_STYLES[position // len(PALETTE) % len(LINE_STYLES)]


def hatch(position: int) -> str:
    """Hatch of the bar at this position: none, then lines for colours that repeat."""
    return HATCHES[position // len(PALETTE) % len(HATCHES)]


def marker(position: int) -> str:
    """Marker of the points at this position: circles, then squares and triangles for colours that repeat."""
    return MARKERS[position // len(PALETTE) % len(MARKERS)]


def canvas(
    title: str = "",
    rows: int = 1,
    columns: int = 1,
    size_in: tuple[float, float] | None = None,
    **layout: Any,
) -> tuple[Figure, list[Axes]]:
    """Create a figure without pyplot, which needs neither a display nor global state.

    Args:
        title: of the whole figure.
        rows, columns: of panels.
        size_in: width and height of the figure, inches; None for the usual size of so many panels.
        layout: arguments of `Figure.subplots` such as `sharex` or `width_ratios`.

    Returns:
        The figure and its panels, row by row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width_in = 6.4 if columns == 1 else 5.2 * columns
    figure = Figure(figsize=size_in or (width_in, 4.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    panels = list(figure.subplots(rows, columns, squeeze=False, **layout).flat)
    for panel in panels:
        panel.grid(alpha=0.25)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def save_figure(figure: Figure, path: Path, dpi: int = 130) -> None:
    """Write a figure in the format of the file's suffix."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
