"""The HTML page of a report: one file with its data, images, style and scripts, so that it can be sent around."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pandas as pd
from jinja2 import Environment, FileSystemLoader

from vitmalis.paths import atomic_path
from vitmalis_jobs.evaluation.study.page_table import Column, page_columns
from vitmalis_jobs.evaluation.study.pairs import PlotDocument
from vitmalis_jobs.run.page.files import asset, script_text

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    Attributes:
        title: its heading.
        words: paragraphs.
        table: rows and columns; empty for none.
        image: a PNG file; None for none.
        plot: name of an interactive plot in `report_page.js`; empty for none.
    """

    title: str
    words: Sequence[str] = ()
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    image: Path | None = None
    plot: str = ""

    @property
    def has_results(self) -> bool:
        """Whether it has a table, an image or a plot."""
        return bool(not self.table.empty or self.image or self.plot)

    @property
    def anchor(self) -> str:
        """The section's name in addresses."""
        return "-".join(re.findall("[a-z0-9]+", self.title.lower()))

    @property
    def columns(self) -> list[Column]:
        """Columns of the table."""
        return page_columns(self.table)

    @property
    def rows(self) -> Iterator[list[tuple[Column, str, str]]]:
        """Rows of the table: column, text and sort key of each cell."""
        columns = self.columns
        for place in range(len(self.table)):
            yield [(column, column.cells[place], column.keys[place]) for column in columns]

    @property
    def image_base64(self) -> str:
        """The image file's bytes in base64; empty without an image."""
        return base64.b64encode(self.image.read_bytes()).decode() if self.image else ""

    @property
    def image_name(self) -> str:
        """Name of the image file; empty without an image."""
        return self.image.name if self.image else ""


def write_page(
    path: Path, title: str, lead: str, facts: Sequence[str], sections: Sequence[Section], plots: PlotDocument
) -> None:
    """Write the page; every text in it is escaped.

    Args:
        path: of the page.
        title: its heading.
        lead: its first sentence.
        facts: what a reader must know before any number.
        sections: in their order.
        plots: data of the interactive plots.
    """
    templates = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = templates.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        facts=facts,
        sections=sections,
        plots=script_text(msgspec.json.encode(plots)),
        style=asset("page.css") + (_HERE / "report_page.css").read_text(encoding="utf-8"),
        scripts=[asset("format.js"), asset("plot.js"), (_HERE / "report_page.js").read_text(encoding="utf-8")],
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
