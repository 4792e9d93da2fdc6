"""Names and colours of what a run page shows, those of the figures."""

from __future__ import annotations

from collections.abc import Iterable

from vitmalis.metrics.summary import STAGES
from vitmalis.regions import RegionType
from vitmalis.types import COCO_CLASSES
from vitmalis_jobs.common.plotting import colour
from vitmalis_jobs.run.figures.decision_plot import REASONS, TAU_NAMES
from vitmalis_jobs.run.figures.panels import colour_of
from vitmalis_jobs.run.figures.plots import STAGE_COLOURS
from vitmalis_jobs.run.figures.region_overlay import TINTS
from vitmalis_jobs.run.page.document import Legend, Named


def legend(labels: Iterable[int]) -> Legend:
    """The legend of a document whose boxes have these labels."""
    return Legend(
        stages=[Named(stage.removesuffix("_s"), STAGE_COLOURS[stage]) for stage in STAGES],
        region_types=[Named(kind.name, _hexadecimal(TINTS[kind])) for kind in RegionType],
        tau_d=[Named(name, colour(tau_d)) for tau_d, name in enumerate(TAU_NAMES)],
        reasons=dict(REASONS),
        classes={label: Named(COCO_CLASSES[label], _hexadecimal(colour_of(label))) for label in sorted(set(labels))},
    )


def _hexadecimal(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
