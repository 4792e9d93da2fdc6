"""The HTML page of a report: a single file with its images inside, so that it can be sent around."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from vitmalis.paths import atomic_path


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: paragraphs, a table and an image, each of which may be missing."""

    title: str
    words: Sequence[str] = ()
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    image: Path | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return [str(column) for column in self.table.columns]

    @property
    def rows(self) -> list[list[str]]:
        """Rows of the table as text."""
        return [[_text(cell) for cell in row] for row in self.table.itertuples(index=False)]

    @property
    def image_base64(self) -> str:
        """The image file's bytes in base64; empty without an image."""
        return base64.b64encode(self.image.read_bytes()).decode() if self.image else ""

    @property
    def image_name(self) -> str:
        """Name of the image file; empty without an image."""
        return self.image.name if self.image else ""


def write_page(path: Path, title: str, facts: Sequence[str], sections: Sequence[Section]) -> None:
    """Write the page; every text in it is escaped."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = templates.get_template("page.html.j2").render(title=title, facts=facts, sections=sections)
    with atomic_path(path) as temporary:
        temporary.write_text(page)


def _text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.1f}" if abs(cell) >= 1 else f"{cell:.3f}"
