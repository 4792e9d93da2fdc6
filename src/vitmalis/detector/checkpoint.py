"""Weights on disk: our own half-precision files, plain state dicts, and detectron2's pickles without their code."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from vitmalis.errors import UserError
from vitmalis.paths import atomic_path

MASK_HEAD = "roi_heads.mask_head."
"""Boxes do not depend on Mask R-CNN's mask branch, so its tensors are left out on purpose."""

BUFFERS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")
"""Constants that older files list with the weights; ours come from the configuration."""


def save_checkpoint(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a model's weights in half precision with facts about them; the file appears whole or not at all.

    Args:
        model: any model of this package.
        path: ends in `.pt`.
        metadata: anything that JSON can hold (data, seed, steps, scores).
    """
    state = {
        name: value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        for name, value in model.state_dict().items()
    }
    with atomic_path(path) as temporary:
        torch.save({"state_dict": state, "metadata": json.dumps(metadata)}, temporary)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights: `.pkl` as detectron2 publishes them, anything else as PyTorch writes it.

    Nothing in the file can run code: PyTorch files are read with `weights_only`, pickles by `read_array_pickle`.

    Returns:
        The state dict in float32, and the metadata (empty where there is none).

    Raises:
        UserError: no such file, or not weights.
    """
    if not path.is_file():
        raise UserError(f"model weights '{path}' do not exist; give a file as model.weights=/path/to/weights")
    if path.suffix == ".pkl":
        with path.open("rb") as file:
            content = read_array_pickle(file, str(path))
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what torch raises for a file that is not its own depends on the first bytes
            raise UserError(f"model weights '{path}' are refused: not a PyTorch file of plain tensors") from error
    return _state_dict(content, path), _metadata(content)


def _metadata(content: Any) -> dict[str, Any]:
    text = content.get("metadata") if isinstance(content, Mapping) else None
    return json.loads(text) if isinstance(text, str) else {}


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"model weights '{path}' hold no state dict but a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(value, Tensor) and not (isinstance(value, np.ndarray) and value.dtype.kind in "fiub"):
            raise UserError(f"model weights '{path}': '{name}' is no tensor of numbers but {type(value).__name__}")
    tensors = {name: torch.as_tensor(value) for name, value in content.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


SKIPPED = (MASK_HEAD, *BUFFERS)
"""Names in detectron2's files that our own models have no place for."""


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str, skipped: tuple[str, ...] = SKIPPED) -> None:
    """Copy weights into a model, by exact name and shape.

    Args:
        model: takes the weights.
        state: names as in the model.
        source: name of the weights in errors.
        skipped: names that begin so are left out on both sides.

    Raises:
        UserError: names are missing or left over, shapes differ, or weights are not finite; the first few are named.
    """
    state = {name: value for name, value in state.items() if not name.startswith(skipped)}
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(skipped)}
    problems = [
        (label, names)
        for label, names in (
            ("missing", sorted(own.keys() - state.keys())),
            ("not in the model", sorted(state.keys() - own.keys())),
            ("of another shape", sorted(n for n in own.keys() & state.keys() if own[n].shape != state[n].shape)),
            ("with values that are not finite", sorted(n for n in own.keys() & state.keys() if not _finite(state[n]))),
        )
        if names
    ]
    if problems:
        summary = "; ".join(f"{len(names)} {label} ({_some(names)})" for label, names in problems)
        raise UserError(f"model weights '{source}' do not fit this model: {summary}{_wrapper_hint(state)}")
    # A model built on the meta device has no memory yet and takes these tensors over instead of copying them.
    model.load_state_dict(state, strict=False, assign=any(value.is_meta for value in own.values()))


def _wrapper_hint(state: dict[str, Tensor]) -> str:
    """A hint for weights that were saved from a wrapper around the model, whose name then begins every name."""
    for prefix, wrapper in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile")):
        if state and all(name.startswith(prefix) for name in state):
            return f"; every name begins with '{prefix}', as {wrapper} adds it: save the model inside, without it"
    return ""


def _finite(tensor: Tensor) -> bool:
    return tensor.is_meta or bool(torch.isfinite(tensor).all())  # a meta tensor has no values


def _some(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """What pickles of protocol 2 call to hold bytes; the only encoding they use is latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")


_RECONSTRUCT: Any = np.ndarray([0]).__reduce__()[0]  # what an array's pickle calls, whatever numpy's private path

_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers, strings and numpy arrays; any other name is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global of the pickle among the admitted ones."""
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_array_pickle(file: BinaryIO, source: str) -> Any:
    """Unpickle nested containers of numpy arrays and nothing else.

    Args:
        file: the pickle, open for reading.
        source: name of the file in errors.

    Raises:
        UserError: the pickle is broken, or asks for anything that is no numeric array.
    """
    try:
        return _ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a hostile or broken pickle can raise anything
        raise UserError(
            f"model weights '{source}' are refused: a pickle may hold numpy arrays only ({error})"
        ) from error
