"""The inference cache: answers come back as stored, processes share it, and a damaged entry only costs an inference."""

from __future__ import annotations

import dataclasses
import pickle
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE, quantized
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


def test_masks_come_back_with_their_answer(tmp_path: Path) -> None:
    masks = quantized(np.random.default_rng(0).random((len(ANSWER.detections), MASK_SIDE, MASK_SIDE)))
    cache = InferenceCache(tmp_path, 10**7)
    cache.put(KEY, CachedAnswer(12_345, dataclasses.replace(ANSWER.detections, masks=masks)))
    found = cache.get(KEY)
    assert found is not None
    np.testing.assert_array_equal(found.detections.masks, masks)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "d"}, {"video_sha256": "w"}, {"frame": 4}, {"width": 810}, {"height": 544}, {"model_id": "n"},
        {"quality": 91}, {"restoration_point": 1}, {"frame_downsampling": 2}, {"downsample_mask": b"\x80"},
        {"blank_mask": b"\x80"}, {"coarse_mask": b"\x80"}, {"coarse_quality": 30},
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


def stored(**changes: object) -> bytes:
    """What the store holds for an answer with two boxes, with some of it changed."""
    values: dict[str, object] = {
        "payload_bytes": 1,
        "boxes_xyxy": np.zeros((2, 4), "<f4").tobytes(),
        "scores": np.ones(2, "<f4").tobytes(),
        "labels": np.zeros(2, "<i8").tobytes(),
    }
    return msgspec.msgpack.encode(values | changes)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


POISON: dict[str, object] = {
    "no answer": b"\x00garbage",
    "a text": "text",
    "a number": 7,
    "empty": b"",
    "part of an answer": msgspec.msgpack.encode({"payload_bytes": 1}),
    "a size that is no number": stored(payload_bytes="1"),
    "a negative size": stored(payload_bytes=-1),
    "boxes of three numbers": stored(boxes_xyxy=bytes(12)),
    "half a number": stored(boxes_xyxy=bytes(33)),
    "more boxes than scores": stored(scores=bytes(4)),
    "more labels than scores": stored(labels=bytes(24)),
    "a box that is not finite": stored(boxes_xyxy=np.full((2, 4), np.nan, "<f4").tobytes()),
    "a score that is not a number": stored(scores=np.full(2, np.nan, "<f4").tobytes()),
    "a score above 1": stored(scores=np.full(2, 1.5, "<f4").tobytes()),
    "a label of no class": stored(labels=np.full(2, 80, "<i8").tobytes()),
    "a negative label": stored(labels=np.full(2, -1, "<i8").tobytes()),
}


def write_raw(folder: Path, value: object) -> None:
    """Write a value of any type into the store of a cache."""
    with sqlite3.connect(folder / "answers.sqlite") as database:
        database.execute("REPLACE INTO entries VALUES (?, ?, 1)", (KEY.digest(), value))
    database.close()


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_entry_is_a_miss_and_is_replaced(tmp_path: Path, poison: str) -> None:
    cache = InferenceCache(tmp_path, 10**7)
    write_raw(tmp_path, POISON[poison])
    assert cache.get(KEY) is None
    cache.put(KEY, ANSWER)
    assert cache.get(KEY) is not None


def test_a_pickle_in_the_cache_is_not_run(tmp_path: Path) -> None:
    cache = InferenceCache(tmp_path, 10**7)
    write_raw(tmp_path, pickle.dumps(Touch(tmp_path / "proof")))
    assert cache.get(KEY) is None
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON entries BEGIN DELETE FROM entries; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE Settings (key TEXT, value)",
        "ALTER TABLE entries ADD COLUMN filename TEXT",
        "DROP INDEX entries_by_use",
    ],
)
def test_a_database_with_anything_else_in_it_is_refused(tmp_path: Path, statement: str) -> None:
    InferenceCache(tmp_path, 10**7).close()
    with sqlite3.connect(tmp_path / "answers.sqlite") as database:
        database.execute(statement)
    database.close()
    with pytest.raises(UserError, match=r"of another kind or version.*delete the folder"):
        InferenceCache(tmp_path, 10**7)


def test_a_store_of_an_earlier_version_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(tmp_path / "cache.db") as earlier:
        earlier.execute("CREATE TABLE Settings (key TEXT, value)")
    earlier.close()
    before = (tmp_path / "cache.db").read_bytes()
    cache = InferenceCache(tmp_path, 10**7)
    cache.put(KEY, ANSWER)
    assert cache.get(KEY) is not None
    assert (tmp_path / "cache.db").read_bytes() == before
    assert "cache.db is of an earlier version: delete it" in caplog.text


def test_a_broken_store_is_an_error_and_a_full_one_costs_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "answers.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"delete the folder|enabled=false"):
        InferenceCache(tmp_path / "broken", 10**7)
    cache = InferenceCache(tmp_path / "full", 10**7)
    cache._store._database.execute("PRAGMA max_page_count = 1")  # as small as it is now
    boxes = np.zeros((5000, 4))
    cache.put(KEY, CachedAnswer(1, Detections.of(boxes, np.zeros(5000), np.zeros(5000))))
    assert "disk is full" in caplog.text
    assert cache.get(KEY) is None


def test_damage_anywhere_in_the_database_is_an_error_or_a_miss(tmp_path: Path) -> None:
    cache = InferenceCache(tmp_path, 10**7)
    for frame in range(50):
        cache.put(msgspec.structs.replace(KEY, frame=frame), ANSWER)
    cache.close()
    path, random = tmp_path / "answers.sqlite", np.random.default_rng(0)
    whole = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 10):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        with suppress(UserError):
            cache = InferenceCache(tmp_path, 10**7)
            for frame in range(50):
                cache.get(msgspec.structs.replace(KEY, frame=frame))
            cache.put(KEY, ANSWER)
            cache.close()


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
