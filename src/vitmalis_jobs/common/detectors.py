"""How a detector stands in for the paper's ViTDet-L."""

from __future__ import annotations

from vitmalis_jobs.common.config import ModelOptions

EMBEDDED_MODEL = "vitdet_tiny"


def model_stand_in(model: ModelOptions) -> str:
    """What the configured model stands in for, as shown and tagged with a run; empty for none."""
    if model.source != "builtin" and model.weights is None:
        return f"random weights of {model.name}: its boxes mean nothing"
    return "small embedded model for ViTDet-L" if model.name == EMBEDDED_MODEL else ""
