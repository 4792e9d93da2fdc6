"""Every reader of a file says in one line that the file is damaged, wherever the damage is; none fails in another way.

Real files of each format are changed at random places, with seeds, and read.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.evaluation.test_explain import DECISION, OFFLOADS
from tests.metrics.test_records import INFO, TWO
from vitmalis.client.session import ClientSession, read_session, write_session
from vitmalis.errors import UserError
from vitmalis.estimation import shipped
from vitmalis.estimation.estimator_files import load_estimator
from vitmalis.estimation.latency import load_latency_tables
from vitmalis.network.traces import load_trace
from vitmalis.records import (
    FrameRecord,
    read_decisions,
    read_frames,
    read_info,
    read_offloads,
    write_decisions,
    write_frames,
    write_offloads,
)
from vitmalis.references import _Chunks
from vitmalis.regions import ModelGeometry
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.evaluation.device.bundle import kept_folder
from vitmalis_jobs.evaluation.finished_run import read_run_config
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.directory import read_summaries, read_sweep
from vitmalis_jobs.run.stored_config import read_config
from vitmalis_jobs.training.estimation.sample_set import COLUMNS, read_samples

FRAMES = [FrameRecord(frame_index=i, capture_time_s=i / 30, render_time_s=i / 30, detections=TWO) for i in range(20)]
Reader = Callable[[Path], object]


def parquet_frames(path: Path) -> Reader:
    write_frames(path, FRAMES, INFO)
    return lambda path: (read_frames(path), read_info(path))


def parquet_offloads(path: Path) -> Reader:
    write_offloads(path, OFFLOADS, INFO)
    return read_offloads


def parquet_decisions(path: Path) -> Reader:
    write_decisions(path, [DECISION], INFO)
    return read_decisions


def parquet_samples(path: Path) -> Reader:
    import pandas as pd

    values: dict[str, object] = {name: np.arange(4.0) for name in COLUMNS}
    pd.DataFrame(values | {"clip": "walk", "part": "eval"}).to_parquet(path)
    return lambda path: read_samples(path.parent)


def npz_references(path: Path) -> Reader:
    arrays = {"boxes_xyxy": np.zeros((3, 4), np.float32), "scores": np.ones(3, np.float32), "labels": np.zeros(3, int)}
    np.savez_compressed(path, frames=np.arange(2), counts=np.array([1, 2]), **arrays)
    path.rename(path.parent / "0000000.npz")

    def read(changed: Path) -> None:
        changed.replace(path.parent / "0000000.npz")
        _Chunks(path.parent)._load(0)

    (path.parent / "0000000.npz").rename(path)
    return read


def json_session(path: Path) -> Reader:
    video = VideoSpec("clip", "clip.mp4", 10.0, 0, 6, 320, 160)
    options = {"latency_tables": "tables.json", "deep": {"nested": [1, 2, {"three": None}]}}
    geometry = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
    write_session(ClientSession(video, "tcp://127.0.0.1:1", ".", geometry, policy_options=options), path)
    return read_session


def json_estimator(path: Path) -> Reader:
    path.write_bytes(shipped.pair_files("vitdet_tiny", "linear")[0].read_bytes())
    return load_estimator


def json_bundle(path: Path) -> Reader:
    path.write_text('{"bundle": "0123456789abcdef"}')

    def read(changed: Path) -> None:
        changed.replace(path.parent / "bundle.json")
        kept_folder(path.parent)

    return read


def json_sweep(path: Path) -> Reader:
    path.write_text(json.dumps({"command": ["policy=vitmalis"], "run_id": "1", "store": "s"}))

    def read(changed: Path) -> None:
        changed.replace(path.parent / "sweep.json")
        read_sweep(path.parent)

    return read


def yaml_config(path: Path) -> Reader:
    path.write_bytes(msgspec.yaml.encode(composed(["policy=trackb2b"])))

    def read(changed: Path) -> None:
        changed.replace(path.parent / "config.yaml")
        read_run_config(path.parent)

    return read


def csv_trace(path: Path) -> Reader:
    path.write_text("time_s,rtt_ms,uplink_mbps\n" + "".join(f"{i},{20 + i},{5.5 + i}\n" for i in range(10)))
    return load_trace


SOURCES: dict[str, Callable[[Path], Reader]] = {
    "frames.parquet": parquet_frames,
    "offloads.parquet": parquet_offloads,
    "decisions.parquet": parquet_decisions,
    "samples.parquet": parquet_samples,
    "references.npz": npz_references,
    "session.json": json_session,
    "estimator.json": json_estimator,
    "label.json": json_bundle,
    "sweeps.json": json_sweep,
    "configs.yaml": yaml_config,
    "trace.csv": csv_trace,
}


def changed(whole: bytes, random: np.random.Generator) -> bytes:
    """The bytes with a few others in their place, cut short, or with a piece that appears twice."""
    data = bytearray(whole)
    for place in random.integers(0, len(data), random.integers(1, 5)):
        data[place] = random.integers(0, 256)
    start, end = np.sort(random.integers(0, len(data), 2))
    match random.integers(0, 4):
        case 0:
            return bytes(data[:end])
        case 1:
            return bytes(data[:end] + data[start:])
    return bytes(data)


@pytest.mark.parametrize("name", SOURCES)
def test_damage_anywhere_is_a_user_error(tmp_path: Path, name: str) -> None:
    path, random = tmp_path / name, np.random.default_rng(17)
    read = SOURCES[name](path)
    whole = path.read_bytes()
    read_count = 0
    for content in (whole, *(changed(whole, random) for _ in range(150))):
        path.write_bytes(content)
        with warnings.catch_warnings(), suppress(UserError):
            warnings.simplefilter("ignore")
            read(path)
            read_count += 1
    assert 0 < read_count < 151 or name == "label.json"


NESTED = b"[" * 200_000


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith(".json")])
@pytest.mark.parametrize("content", [b"", NESTED, b'{"policy_options":' + NESTED, b"null", b"7", b"\xff\xfe", b"[]"])
def test_any_json_in_place_of_a_file_is_a_user_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    read = SOURCES[name](path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        read(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "{}", "[" * 100_000, '{"status": 7, "metrics": []}'])
def test_a_damaged_summary_counts_as_a_failed_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "summary.json").write_text(content)
    (summary,) = read_summaries(tmp_path)
    assert summary["status"] == "FAILED"
    assert "0/summary.json is damaged" in summary["error"]


def test_a_configuration_names_no_python_object(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    whole = msgspec.yaml.encode(composed(["policy=trackb2b"])).decode()
    for evil in (f"_target_: os.getcwd\n{whole}", f"x: !!python/object/apply:os.getcwd []\n{whole}"):
        path.write_text(evil)
        with pytest.raises(msgspec.MsgspecError):
            read_config(path)


def test_a_configuration_has_no_aliases(tmp_path: Path) -> None:
    """Twenty lines of nine aliases each would stand for 9^20 values."""
    lists = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 21)]
    whole = msgspec.yaml.encode(composed(["policy=trackb2b"])).decode()
    (tmp_path / "config.yaml").write_text(
        whole.replace("policy:\n", f"policy:\n  x: {{a0: &a0 [1], {', '.join(lists)}}}\n", 1)
    )
    with pytest.raises(
        UserError, match=r"config\.yaml' is no configuration of an evaluation: malformed YAML: it has aliases"
    ):
        read_run_config(tmp_path)


@pytest.mark.parametrize("content", ["output: 7", "a: 2001-99-99", "? [1]\n: 2", "[" * 5000, "", "7", "\0", "\udcff"])
def test_any_yaml_in_place_of_a_configuration_is_a_user_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="is no configuration of an evaluation"):
        read_run_config(tmp_path)


def test_latency_tables_of_any_content_are_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "tables.json"
    for content in (b"", NESTED, b"{}", b'{"version": 1e400}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"tables\.json"):
            load_latency_tables(path)
