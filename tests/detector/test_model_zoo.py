"""Published weights come once, whole and the same, or not at all; the server is a local one."""

import pickle
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from vitmalis import download
from vitmalis.detector import load_detector
from vitmalis.detector.build import build_model
from vitmalis.detector.config import PRESETS, DetectorConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.detector.model_zoo import PUBLISHED_WEIGHTS, Lock, fetched_weights
from vitmalis.errors import UserError

SMALL = DetectorConfig(
    name="small",
    vit=VitConfig(embed_dim=16, depth=4, num_heads=2, window=3, relative_grid=8),
    pyramid=PyramidConfig(channels=8),
    head=RcnnConfig(box_convs=(8,), box_width=16),
    classes=(0, 2),
)
NAME = "model_final_small.pkl"


class Zoo(ThreadingHTTPServer):
    """Serves one file; can break transfers off, ignore ranges and be without the file."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.status = 200
        self.break_after: list[int] = []  # bytes after which the coming transfers end
        self.ranges = True
        self.asked: list[str | None] = []  # Range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/COCO/{NAME}"


class Handler(BaseHTTPRequestHandler):
    server: Zoo

    def do_GET(self) -> None:
        zoo, asked = self.server, self.headers.get("Range")
        zoo.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and zoo.ranges else 0
        total = len(zoo.content)
        if zoo.status != 200:
            self.send_error(zoo.status)
            return
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        sent = zoo.break_after.pop(0) if zoo.break_after else total
        self.wfile.write(zoo.content[start : start + sent])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def published() -> bytes:
    torch.manual_seed(0)
    state = {name: value.numpy() for name, value in build_model(SMALL).state_dict().items()}
    return pickle.dumps({"model": state, "__author__": "Detectron2 ViTDet Model Zoo"}, protocol=2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(download, "CHUNK_BYTES", 100)
    return tmp_path / "weights"


@pytest.fixture
def zoo(published: bytes, cache: Path) -> Iterator[Zoo]:
    with Zoo(published) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {f"{NAME}.lock"}  # the file that processes wait at


def test_fetched_once_checked_every_time(zoo: Zoo, cache: Path, published: bytes) -> None:
    path = fetched_weights(SMALL, zoo.url)
    assert path == cache / NAME
    assert path.read_bytes() == published
    assert fetched_weights(SMALL, zoo.url) == path
    assert zoo.asked == [None]
    assert files(cache) == {NAME, f"{NAME}.lock.json"}
    lock = msgspec.json.decode((cache / f"{NAME}.lock.json").read_bytes(), type=Lock)
    assert (lock.url, lock.size_bytes, len(lock.sha256)) == (zoo.url, len(published), 64)


def test_a_named_model_without_weights_fetches_its_own(zoo: Zoo, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setitem(PUBLISHED_WEIGHTS, "small", zoo.url)
    detector = load_detector("small")
    detector.detect(np.zeros((64, 64, 3), np.uint8))
    assert load_detector("small", weights=zoo.url).model_id == detector.model_id
    assert load_detector("small", weights=cache / NAME).model_id == detector.model_id
    assert len(zoo.asked) == 1


def test_a_broken_transfer_goes_on(zoo: Zoo, published: bytes) -> None:
    zoo.break_after = [1000, 500]
    assert fetched_weights(SMALL, zoo.url).read_bytes() == published
    assert zoo.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_an_earlier_process_left_a_part(zoo: Zoo, cache: Path, published: bytes) -> None:
    cache.mkdir()
    (cache / "model_final_small.part.pkl").write_bytes(published[:2000])
    assert fetched_weights(SMALL, zoo.url).read_bytes() == published
    assert zoo.asked == ["bytes=2000-"]
    assert files(cache) == {NAME, f"{NAME}.lock.json"}


def test_a_part_that_is_whole_or_too_long(zoo: Zoo, cache: Path, published: bytes) -> None:
    cache.mkdir()
    part = cache / "model_final_small.part.pkl"
    part.write_bytes(published)
    assert fetched_weights(SMALL, zoo.url).read_bytes() == published
    assert zoo.asked == [f"bytes={len(published)}-"]
    (cache / NAME).unlink()
    part.write_bytes(published + b"more")
    assert fetched_weights(SMALL, zoo.url).read_bytes() == published
    assert zoo.asked[1:] == [f"bytes={len(published) + 4}-", None]


def test_a_server_without_ranges_sends_everything_again(zoo: Zoo, published: bytes) -> None:
    zoo.ranges = False
    zoo.break_after = [1000]
    assert fetched_weights(SMALL, zoo.url).read_bytes() == published
    assert zoo.asked == [None, "bytes=1000-"]


def test_a_stalled_transfer_ends_and_its_part_is_kept(zoo: Zoo, cache: Path, published: bytes) -> None:
    zoo.break_after = [1000] + [0] * 10
    with pytest.raises(UserError, match=re.escape(f"{NAME} could not be downloaded from {zoo.url}")):
        fetched_weights(SMALL, zoo.url)
    assert len(zoo.asked) == 1 + download.MAX_FAILURES
    assert files(cache) == {"model_final_small.part.pkl"}
    zoo.break_after = []
    assert fetched_weights(SMALL, zoo.url).read_bytes() == published
    assert zoo.asked[-1] == "bytes=1000-"


def test_offline_says_what_to_put_where(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Zoo(b"") as closed:
        url = closed.url
    with pytest.raises(UserError) as caught:
        fetched_weights(SMALL, url)
    assert capsys.readouterr().err.strip() == ""  # no bar for what never began
    message = str(caught.value)
    assert "\n" not in message
    assert "model 'small'" in message
    assert "Connection refused" in message
    for needed in (NAME, url, str((cache / NAME).absolute()), "model.weights=/path"):
        assert needed in message


def test_a_file_that_is_not_there(zoo: Zoo, cache: Path) -> None:
    zoo.status = 403
    with pytest.raises(UserError, match="it answers 403 Forbidden"):
        fetched_weights(SMALL, zoo.url)
    assert files(cache) == set()


def test_put_there_by_hand_is_checked_and_locked(cache: Path, published: bytes) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(published)
    url = f"http://127.0.0.1:9/{NAME}"
    assert fetched_weights(SMALL, url).read_bytes() == published
    (cache / NAME).write_bytes(published[:-1] + b"x")
    with pytest.raises(UserError, match=r"are refused: sha256 .*lock\.json'; delete the weights to fetch"):
        fetched_weights(SMALL, url)


def test_another_file_under_the_same_name_is_refused(zoo: Zoo, cache: Path, published: bytes) -> None:
    path = fetched_weights(SMALL, zoo.url)
    path.unlink()
    zoo.content = published[:-200] + bytes(1) + published[-199:]
    with pytest.raises(UserError, match="are refused: sha256"):
        fetched_weights(SMALL, zoo.url)
    assert files(cache) == {f"{NAME}.lock.json"}
    other_url = zoo.url.replace("COCO", "LVIS")
    with pytest.raises(UserError, match=re.escape(f"belong to {zoo.url}, not to {other_url}")):
        fetched_weights(SMALL, other_url)
    assert len(zoo.asked) == 2


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["hostile", "other model", "web page"])
def test_what_does_not_fit_is_neither_kept_nor_run(zoo: Zoo, cache: Path, tmp_path: Path, kind: str) -> None:
    wrong = {
        "hostile": pickle.dumps({"model": Hostile(tmp_path / "proof")}),
        "other model": pickle.dumps({"model": {"backbone.net.pos_embed": np.zeros((1, 197, 16), np.float32)}}),
        "web page": b"<html>Sign in to this network</html>",
    }
    zoo.content = wrong[kind]
    with pytest.raises(UserError, match="do not fit this model" if kind == "other model" else "are refused"):
        fetched_weights(SMALL, zoo.url)
    assert files(cache) == set()
    assert not (tmp_path / "proof").exists()


def test_a_damaged_lock_and_a_url_without_a_file_are_refused(zoo: Zoo, cache: Path) -> None:
    fetched_weights(SMALL, zoo.url)
    (cache / f"{NAME}.lock.json").write_text("{")
    with pytest.raises(UserError, match=r"lock\.json' is damaged"):
        fetched_weights(SMALL, zoo.url)
    with pytest.raises(UserError, match="name no file"):
        fetched_weights(SMALL, "https://example.org")


def test_every_published_model_has_a_place() -> None:
    assert PUBLISHED_WEIGHTS.keys() == PRESETS.keys() - {"vitdet_tiny"}
    for name, url in PUBLISHED_WEIGHTS.items():
        assert re.fullmatch(rf"https://.*/mask_rcnn_{name}/f\d+/model_final_[0-9a-f]{{6}}\.pkl", url)
