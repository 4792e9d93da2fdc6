"""Weights on disk: our own half-precision files, plain state dicts, and detectron2's pickles without their code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitmalis.detector.array_pickle import PickledArray, read_array_pickle
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path

MASK_HEADS = ("roi_heads.mask_head.", "mask_head.")
"""Beginnings of the names of a mask head's tensors, which a model that finds boxes only leaves out."""

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

    Nothing in the file can run code or take more memory than a few times its size: pickles are read by
    `read_array_pickle`, PyTorch files by `read_torch_file`.

    Returns:
        The state dict in float32, and the metadata (empty where there is none).

    Raises:
        UserError: no such file, or not weights.
    """
    if not path.is_file():
        raise UserError(f"model weights '{path}' do not exist; give a file as model.weights=/path/to/weights")
    content = read_array_pickle(path) if path.suffix == ".pkl" else read_torch_file(path)
    return _state_dict(content, path), _metadata(content, path)


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote, tensors and plain containers alone, into the CPU's memory.

    Raises:
        UserError: the file cannot be read, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            archived = file.read(4) == b"PK\3\4"  # by which torch.load, too, knows an archive
        if archived:
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises for a file that is not its own depends on the first bytes
        raise UserError(f"model weights '{path}' are refused: not a PyTorch file of plain tensors") from error


def _check_archive(path: Path) -> None:
    """Refuse an archive with compressed entries, which `torch.save` never writes: they can unfold to any size."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("compressed entries")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("entries larger than the file")


def _metadata(content: Any, path: Path) -> dict[str, Any]:
    text = content.get("metadata") if isinstance(content, Mapping) else None
    if not isinstance(text, str):
        return {}
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"model weights '{path}' are damaged: their metadata are no JSON object ({error})") from error


SHARING = 4
"""How many times its file's size a state dict may take: tied tensors are stored once and counted each time."""


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"model weights '{path}' hold no state dict but a {type(content).__name__}")
    tensors = {name: _tensor(name, value, path) for name, value in content.items()}
    if sum(value.numel() * value.element_size() for value in tensors.values()) > SHARING * path.stat().st_size:
        raise UserError(f"model weights '{path}' are refused: their tensors are far larger than the file")
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _tensor(name: object, value: Any, path: Path) -> Tensor:
    """A value of a state dict as a tensor; refuses all but numbers in the memory of the CPU."""
    if not isinstance(name, str):
        raise UserError(f"model weights '{path}': {name!r:.80} is no name of a tensor")
    if isinstance(value, PickledArray) and value.values is not None:
        return torch.as_tensor(value.values)
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    if not plain or value.is_quantized or value.is_complex():
        raise UserError(f"model weights '{path}': '{name}' is no tensor of numbers but {type(value).__name__}")
    return value.detach()


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model, by exact name and shape.

    Constants of detectron2's files are left out, and the tensors of a mask head if the model has none.

    Args:
        model: takes the weights.
        state: names as in the model.
        source: name of the weights in errors.

    Raises:
        UserError: names are missing or left over, shapes differ, or weights are not finite; the first few are named.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(BUFFERS)}
    skipped = BUFFERS if any(name.startswith(MASK_HEADS) for name in own) else (*MASK_HEADS, *BUFFERS)
    state = {name: value for name, value in state.items() if not name.startswith(skipped)}
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
        hint = _wrapper_hint(state) or _mask_hint(own, state)
        raise UserError(f"model weights '{source}' do not fit this model: {summary}{hint}")
    # A model built on the meta device has no memory yet and takes these tensors over instead of copying them.
    model.load_state_dict(state, strict=False, assign=any(value.is_meta for value in own.values()))


def _wrapper_hint(state: dict[str, Tensor]) -> str:
    """A hint for weights that were saved from a wrapper around the model, whose name then begins every name."""
    for prefix, wrapper in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile")):
        if state and all(name.startswith(prefix) for name in state):
            return f"; every name begins with '{prefix}', as {wrapper} adds it: save the model inside, without it"
    return ""


def _mask_hint(own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """A hint for weights that lack a mask head and nothing else."""
    missing = own.keys() - state.keys()
    if missing and all(name.startswith(MASK_HEADS) for name in missing) and own.keys() - missing == state.keys():
        return (
            "; they have no mask head: use model.task=boxes, or train one (python -m training.masks start.weights=...)"
        )
    return ""


def _finite(tensor: Tensor) -> bool:
    return tensor.is_meta or bool(torch.isfinite(tensor).all())  # a meta tensor has no values


def _some(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
