"""The inference cache: answers come back as stored, processes share it, and a damaged entry only costs an inference."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import diskcache
import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.types import Detections
from vitmalis.virtual.cache import AnswerKey, CachedAnswer, InferenceCache

KEY = AnswerKey(
    code="c", video_sha256="v", frame=3, width=960, height=540, model_id="m", quality=90, restoration_point=2
)
ANSWER = CachedAnswer(12_345, Detections.of([[1.5, 2, 3, 4], [5, 6, 7, 8]], [0.9, 0.25], [0, 5]))
WRITER = """
import sys
from pathlib import Path
from tests.virtual.test_cache import ANSWER, KEY
from vitmalis.virtual.cache import InferenceCache
import msgspec
cache = InferenceCache(Path(sys.argv[1]), 10**8)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    key = msgspec.structs.replace(KEY, frame=number % 50)
    found = cache.get(key)
    assert found is None or found.payload_bytes == ANSWER.payload_bytes
    cache.put(key, ANSWER)
"""


def writer(folder: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(count)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = InferenceCache(tmp_path, 10**7)
    assert cache.get(KEY) is None
    cache.put(KEY, ANSWER)
    found = InferenceCache(tmp_path, 10**7).get(KEY)
    assert found is not None
    assert found.payload_bytes == 12_345
    for name in ("boxes_xyxy", "scores", "labels"):
        stored, given = getattr(found.detections, name), getattr(ANSWER.detections, name)
        assert stored.dtype == given.dtype
        np.testing.assert_array_equal(stored, given)
    assert cache.get(KEY) is not None
    assert (cache.hits, cache.misses) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "d"}, {"video_sha256": "w"}, {"frame": 4}, {"width": 810}, {"height": 544}, {"model_id": "n"},
        {"quality": 91}, {"restoration_point": 1}, {"frame_downsampling": 2}, {"downsample_mask": b"\x80"},
        {"blank_mask": b"\x80"},
    ],
)  # fmt: skip
def test_every_field_of_the_key_changes_its_digest(change: dict[str, object]) -> None:
    assert msgspec.structs.replace(KEY, **change).digest() != KEY.digest()
    assert msgspec.structs.replace(KEY).digest() == KEY.digest()


def test_processes_share_the_cache_while_one_is_killed(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 300) for _ in range(3)]
    killed = writer(tmp_path, 10**6)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [process.wait(60) for process in writers] == [0, 0, 0]
    cache = InferenceCache(tmp_path, 10**8)
    found = [cache.get(msgspec.structs.replace(KEY, frame=number)) for number in range(50)]
    assert all(answer is not None and answer.payload_bytes == ANSWER.payload_bytes for answer in found)
    for process in (*writers, killed):
        assert process.stdout is not None
        process.stdout.close()


def test_a_damaged_entry_is_a_miss_and_is_written_again(tmp_path: Path) -> None:
    cache = InferenceCache(tmp_path, 10**7)
    for damaged in (b"\x00garbage", "text", msgspec.msgpack.encode({"payload_bytes": 1})):
        with diskcache.Cache(str(tmp_path)) as raw:
            raw.set(KEY.digest(), damaged)
        assert cache.get(KEY) is None
    cache.put(KEY, ANSWER)
    assert cache.get(KEY) is not None


def test_a_broken_store_is_an_error_and_a_full_one_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cache.db").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"delete the folder|enabled=false"):
        InferenceCache(tmp_path / "broken", 10**7)
    cache = InferenceCache(tmp_path / "full", 10**7)

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(cache._store, "set", full)
    cache.put(KEY, ANSWER)
    assert "disk is full" in caplog.text
    assert cache.get(KEY) is None


def test_a_full_cache_drops_the_least_recently_used_answers(tmp_path: Path) -> None:
    cache = InferenceCache(tmp_path, 200_000)
    boxes = np.random.default_rng(0).random((500, 4)).astype(np.float32)
    large = CachedAnswer(1, Detections.of(boxes, np.full(500, 0.5), np.zeros(500)))  # 14 kB
    for number in range(60):
        cache.put(msgspec.structs.replace(KEY, frame=number), large)
        assert cache.get(msgspec.structs.replace(KEY, frame=0)) is not None  # used throughout
    kept = [cache.get(msgspec.structs.replace(KEY, frame=number)) is not None for number in range(60)]
    assert kept[0]
    assert kept[-1]
    assert not all(kept)
    cache.close()
