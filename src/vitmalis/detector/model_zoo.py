"""Published weights: downloaded once, checked, cached; an interrupted transfer goes on where it stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import torch

from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import load_checkpoint, load_into
from vitmalis.detector.config import DetectorConfig
from vitmalis.download import DownloadError, download
from vitmalis.errors import UserError
from vitmalis.locks import file_lock
from vitmalis.paths import atomic_path, cache_dir
from vitmalis.untrusted_files import decode_json

MODEL_ZOO = "https://dl.fbaipublicfiles.com/detectron2/ViTDet/COCO"

PUBLISHED_WEIGHTS = {
    "vitdet_b": f"{MODEL_ZOO}/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl",
    "vitdet_l": f"{MODEL_ZOO}/mask_rcnn_vitdet_l/f325599698/model_final_6146ed.pkl",
    "vitdet_h": f"{MODEL_ZOO}/mask_rcnn_vitdet_h/f329145471/model_final_7224f1.pkl",
}
"""Where detectron2 publishes the weights of its Mask R-CNN ViTDet models, trained on COCO."""


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """Facts of a file when it was checked for the first time, stored next to it as `<file>.lock.json`.

    Attributes:
        url: where the file came from.
        sha256: of its content.
        size_bytes: its length.
    """

    url: str
    sha256: str
    size_bytes: int


def is_url(weights: str | Path) -> bool:
    """Whether weights are downloaded rather than read from a file."""
    return str(weights).startswith(("https://", "http://"))


def fetched_weights(config: DetectorConfig, url: str) -> Path:
    """The file of a URL, from the cache or downloaded now.

    The first time, the file must be readable as weights (`load_checkpoint`: nothing in it can run) and fit the model;
    then its hash is recorded. From then on the hash must be the same. Processes that start together wait for
    the one that downloads.

    Args:
        config: of the model that the weights are for.
        url: http or https; its last part names the file.

    Raises:
        UserError: no connection, no such file, not this model's weights, or another file than the one checked before.
    """
    path = cache_dir() / "weights" / _file_name(url)
    with file_lock(path.with_name(f"{path.name}.lock")):
        recorded = _recorded(path, url)
        if path.is_file():
            _check(path, path, config, url, recorded)
            return path
        part = path.with_name(f"{path.stem}.part{path.suffix}")  # the suffix says how to read it
        try:
            download(url, part, path.name)
        except DownloadError as error:
            raise UserError(
                f"model '{config.name}': {path.name} could not be downloaded from {url} ({error}); fetch it by other "
                f"means and put it at '{path.absolute()}', or say model.weights=/path/to/it"
            ) from error
        try:
            _check(part, path, config, url, recorded)
        except UserError:
            part.unlink()  # whole, but wrong: going on with it would never help
            raise
        part.replace(path)
    return path


def _file_name(url: str) -> str:
    name = Path(unquote(urlsplit(url).path)).name
    if not name:
        raise UserError(f"model weights '{url}' name no file; give a URL that ends in one, or a path")
    return name


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock.json")


def _recorded(path: Path, url: str) -> Lock | None:
    """The record of the first check of `path`; None before that."""
    lock_path = _lock_path(path)
    if not lock_path.is_file():
        return None
    try:
        lock = decode_json(lock_path.read_bytes(), Lock)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{lock_path}' is damaged ({error}); delete it, and the weights are checked again") from error
    if lock.url != url:
        raise UserError(
            f"model weights '{path}' belong to {lock.url}, not to {url}; "
            f"delete them and '{lock_path.name}' next to them, or say model.weights=/path/to/a/file"
        )
    return lock


def _check(file: Path, path: Path, config: DetectorConfig, url: str, recorded: Lock | None) -> None:
    """Check the content of `file`, which is or will be at `path`; the first time, record its hash."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if recorded is not None:
        if digest != recorded.sha256:
            raise UserError(
                f"model weights '{file}' are refused: sha256 {digest[:12]}... is not {recorded.sha256[:12]}... of "
                f"'{_lock_path(path)}'; delete the weights to fetch them again, or the other file if you trust them"
            )
        return
    state, _ = load_checkpoint(file)
    with torch.device("meta"):
        model = build_model(config)
    load_into(model, state, str(file))
    lock = Lock(url=url, sha256=digest, size_bytes=file.stat().st_size)
    with atomic_path(_lock_path(path)) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(lock)) + b"\n")
