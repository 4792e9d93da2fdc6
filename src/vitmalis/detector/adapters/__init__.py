"""Vision transformers of other libraries at mixed resolution: their own weights, their code as it is."""

from vitmalis.detector.adapters.model import MixedResolutionViT
from vitmalis.detector.adapters.wrap import wrap

__all__ = ["MixedResolutionViT", "wrap"]
