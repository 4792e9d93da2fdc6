"""The detector of a run: loaded once in a process however many runs of a sweep need it, and what it stands in for."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from vitmalis_jobs.common.config import ModelOptions

EMBEDDED_MODEL = "vitdet_tiny"

if TYPE_CHECKING:
    from vitmalis.detector import Detector


@lru_cache(maxsize=1)
def loaded_detector(model: ModelOptions) -> Detector:
    """Load the configured model for use with one torch thread, which is how references and virtual servers run.

    Raises:
        UserError: an unknown model, or weights that cannot be had.
    """
    import torch  # here, as help and mistakes need not wait for it

    from vitmalis.detector.detector import load_detector

    torch.set_num_threads(1)
    return load_detector(model.name, **model.detector_options)


def model_stand_in(model: ModelOptions) -> str:
    """What the configured model stands in for, as shown and tagged with a run; empty for none."""
    if model.source != "builtin" and model.weights is None:
        return f"random weights of {model.name}: its boxes mean nothing"
    return "small embedded model for ViTDet-L" if model.name == EMBEDDED_MODEL else ""
