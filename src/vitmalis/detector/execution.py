"""What is done to a model's transformer before it runs: layers in int8, or compiled blocks."""

from __future__ import annotations

from vitmalis.detector.base import DetectionModel
from vitmalis.detector.compiled import compile_blocks
from vitmalis.detector.int8 import prepare_products
from vitmalis.detector.precision import INT8
from vitmalis.detector.vit import ViT
from vitmalis.errors import UserError


def prepare_transformer(model: DetectionModel, precision: str, compiled: bool) -> None:
    """Change a transformer in place as a precision and compilation ask for.

    Args:
        model: on its device.
        precision: one of `PRECISIONS`.
        compiled: see `compile_blocks`.

    Raises:
        UserError: the transformer is another library's, or compiled layers are to be in int8.
    """
    net, name = model.backbone.net, model.config.name
    if not isinstance(net, ViT):
        if compiled:
            raise UserError(f"model '{name}' is another library's and cannot be compiled; use compile=false")
        if precision == INT8:
            raise UserError(f"model '{name}' is another library's and cannot multiply in int8; use precision=bf16")
        return
    if compiled and precision == INT8:
        raise UserError(f"model '{name}' cannot be compiled with precision=int8; use compile=false or precision=bf16")
    prepare_products(net, precision)
    if compiled:
        compile_blocks(net)
