"""Published weights: fetched once, checked, kept in the cache; an interrupted transfer goes on where it stopped."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import requests
import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import load_checkpoint, load_into
from vitmalis.detector.config import DetectorConfig
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path, cache_dir

MODEL_ZOO = "https://dl.fbaipublicfiles.com/detectron2/ViTDet/COCO"

PUBLISHED_WEIGHTS = {
    "vitdet_b": f"{MODEL_ZOO}/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl",
    "vitdet_l": f"{MODEL_ZOO}/mask_rcnn_vitdet_l/f325599698/model_final_6146ed.pkl",
    "vitdet_h": f"{MODEL_ZOO}/mask_rcnn_vitdet_h/f329145471/model_final_7224f1.pkl",
}
"""Where detectron2 publishes the weights of its Mask R-CNN ViTDet models, trained on COCO."""

CHUNK_BYTES = 1 << 16  # what a break may cost
TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of data
BREAKS_IN_A_ROW = 5
"""A transfer that breaks so often without a byte of progress is given up."""
PAUSE_S = 1.0
"""Wait so long after the first break without progress, longer after the next."""


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What a file was when it was checked for the first time; kept beside it as `<file>.lock.json`.

    Attributes:
        url: where it came from.
        sha256: of its content.
        size_bytes: its length.
    """

    url: str
    sha256: str
    size_bytes: int


def is_url(weights: str | Path) -> bool:
    """Whether weights are to be fetched rather than opened."""
    return str(weights).startswith(("https://", "http://"))


def fetched_weights(config: DetectorConfig, url: str) -> Path:
    """The file behind a URL, out of the cache or downloaded now.

    The first time, the file must be readable as weights (`load_checkpoint`: nothing in it can run) and fit the model;
    then its hash is written down. Every other time the hash must be that one. Processes that start together wait for
    the one that downloads.

    Args:
        config: of the model that the weights are for.
        url: http or https; its last part names the file.

    Raises:
        UserError: no connection, no such file, not this model's weights, or not the file that was checked before.
    """
    path = cache_dir() / "weights" / _file_name(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        recorded = _recorded(path, url)
        if path.is_file():
            _check(path, path, config, url, recorded)
            return path
        part = path.with_name(f"{path.stem}.part{path.suffix}")  # the suffix tells how to read it
        download(url, part, path, config.name)
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
    """What was written down about `path` when it was checked for the first time; None before that."""
    lock_path = _lock_path(path)
    if not lock_path.is_file():
        return None
    try:
        lock = msgspec.json.decode(lock_path.read_bytes(), type=Lock)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{lock_path}' is damaged ({error}); delete it, and the weights are checked anew") from error
    if lock.url != url:
        raise UserError(
            f"model weights '{path}' belong to {lock.url}, not to {url}; "
            f"delete them and '{lock_path.name}' beside them, or say model.weights=/path/to/a/file"
        )
    return lock


def _check(file: Path, path: Path, config: DetectorConfig, url: str, recorded: Lock | None) -> None:
    """Check the content of `file`, which is or will be at `path`; the first time, write down what it is."""
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


class _BrokenOff(Exception):
    """A transfer ended before its end; what has come is kept."""


def download(url: str, part: Path, final: Path, model: str) -> None:
    """Bring a file to `part`, going on from what is there already; progress goes to standard error.

    Files in a model zoo never change under their name, so the pieces need no further mark of belonging together; the
    check of the whole would tell.

    Args:
        url: of the file.
        part: takes the data.
        final, model: named in errors, so that a user knows where to put a file fetched by other means.

    Raises:
        UserError: no connection, an answer that is no such file, or no progress.
    """
    breaks = 0
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars, requests.Session() as session:
        bar = bars.add_task(final.name, total=None, visible=False)
        while True:
            before = part.stat().st_size if part.is_file() else 0
            try:
                for done_bytes, total_bytes in _transfer(session, url, part, before):
                    bars.update(bar, completed=done_bytes, total=total_bytes, visible=True)
                return
            except _BrokenOff as error:
                grown = part.is_file() and part.stat().st_size > before
                breaks = 0 if grown else breaks + 1
                if breaks == BREAKS_IN_A_ROW:
                    raise _unreachable(url, final, model, error) from error
                time.sleep(breaks * PAUSE_S)
            except OSError as error:  # requests' errors are such, too
                raise _unreachable(url, final, model, error) from error


def _transfer(session: requests.Session, url: str, part: Path, start: int) -> Iterator[tuple[int, int | None]]:
    """One request for what is missing from byte `start` on; yields (bytes there, bytes in all) as they are written."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        served = answer.headers.get("Content-Range", "")
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            if served == f"bytes */{start}":
                return  # nothing is missing
            part.unlink()
            raise _BrokenOff(f"{start} bytes were there already, which is no beginning of it")
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if resumed and not served.startswith(f"bytes {start}-"):
            raise OSError(f"it sends '{served}' when asked for what follows byte {start}")
        done = start if resumed else 0  # a server that knows no ranges sends everything again
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        with part.open("ab" if resumed else "wb") as file:
            try:
                for chunk in answer.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    yield done, total
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                raise _BrokenOff(_reason(error)) from error
    if total is not None and done != total:
        raise _BrokenOff(f"it ended after {done} of {total} bytes")


def _reason(error: Exception) -> str:
    """What went wrong, in one line, without the wrappings of the libraries below."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code} {error.response.reason}"
    inner: BaseException = error
    while inner.__context__ is not None:
        inner = inner.__context__
    return " ".join(str(inner).split())


def _unreachable(url: str, final: Path, model: str, error: Exception) -> UserError:
    return UserError(
        f"model '{model}': {final.name} could not be downloaded from {url} ({_reason(error)}); fetch it by other means "
        f"and put it at '{final.absolute()}', or say model.weights=/path/to/it"
    )
