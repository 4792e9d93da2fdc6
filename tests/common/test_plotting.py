"""The canvas, the palette and the files of figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitmalis_jobs.common.plotting import PALETTE, canvas, colour, hatch, line_style, marker, save_figure


def test_colours_are_distinct_and_repeat_after_the_last() -> None:
    assert len(set(PALETTE)) == 9
    assert [colour(position) for position in (0, 8, 9)] == [PALETTE[0], PALETTE[8], PALETTE[0]]


def test_series_of_equal_colour_differ_in_line_hatch_and_marker() -> None:
    for style in (line_style, hatch, marker):
        assert len({(colour(position), style(position)) for position in range(27)}) == 27
    assert (line_style(8), hatch(8), marker(8)) == ("-", "", "o")
    assert (line_style(9), hatch(9), marker(9)) == ("--", "///", "s")


def test_panels_come_row_by_row(tmp_path: Path) -> None:
    figure, panels = canvas("six panels", rows=2, columns=3, size_in=(6.0, 4.0), sharex=True)
    corners = [panel.get_subplotspec().num1 for panel in panels]
    assert corners == [0, 1, 2, 3, 4, 5]
    save_figure(figure, tmp_path / "new" / "six.png", dpi=50)
    assert Image.open(tmp_path / "new" / "six.png").size == (300, 200)


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path: Path) -> None:
    figure, (panel,) = canvas()
    save_figure(figure, tmp_path / "one.png")
    before = (tmp_path / "one.png").read_bytes()
    panel.plot(np.arange(2), np.arange(2), label="$\\nonsense{$")
    panel.legend()
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(figure, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]
