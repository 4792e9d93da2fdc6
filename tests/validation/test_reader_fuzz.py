"""Fuzzing of readers: valid seeds are read, faults are kept, blind and in processes of their own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vitmalis_jobs.validation.reader_fuzz.job import fuzz_reader, main
from vitmalis_jobs.validation.reader_fuzz.targets import TARGETS, Target
from vitmalis_jobs.validation.reader_fuzz.worker import Session, fuzz_blindly, mutated


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_valid(name: str, tmp_path: Path) -> None:
    seeds = TARGETS[name].seeds(tmp_path)
    assert len(seeds) >= 2
    for data in seeds:
        TARGETS[name].read(data, tmp_path)


@pytest.mark.parametrize("name", ["message", "jpeg", "trace", "pickle"])
def test_mutated_seeds_are_read_or_refused(name: str, tmp_path: Path) -> None:
    session = Session(TARGETS[name], tmp_path, tmp_path)
    left = iter(range(300))
    fuzz_blindly(session, TARGETS[name].seeds(tmp_path), 1, lambda: next(left, None) is None)
    result = session.result()
    assert result["faults"] == {}
    assert result["inputs"] > 300


def test_each_kind_of_fault_is_kept_once(tmp_path: Path) -> None:
    def read(data: bytes, folder: Path) -> None:
        if data.startswith(b"a"):
            raise KeyError("a")
        if data.startswith(b"b"):
            raise ZeroDivisionError
        if data.startswith(b"c"):
            raise ValueError("refused")

    session = Session(Target(read, lambda folder: [], (ValueError,)), tmp_path, tmp_path)
    for data in (b"a1", b"a2", b"b1", b"c1", b"d1"):
        session.read(data)
    faults = session.result()["faults"]
    assert [fault["error"] for fault in faults.values()] == ["KeyError: 'a'", "ZeroDivisionError: "]
    assert [Path(fault["input"]).read_bytes() for fault in faults.values()] == [b"a1", b"b1"]
    assert session.result()["inputs"] == 5


def test_mutations_are_the_same_for_a_seed() -> None:
    first, second = random.Random(7), random.Random(7)
    mutations = [mutated(b"0123456789" * 20, first) for _ in range(50)]
    assert mutations == [mutated(b"0123456789" * 20, second) for _ in range(50)]
    assert len(set(mutations)) > 45


def test_a_reader_is_fuzzed_in_a_process(tmp_path: Path) -> None:
    result = fuzz_reader("jpeg", 0.5, 1, tmp_path / "jpeg")
    assert result["faults"] == {}
    assert result["inputs"] >= 2
    assert not (tmp_path / "jpeg" / "current").exists()


def test_a_process_that_dies_is_a_fault(tmp_path: Path) -> None:
    result = fuzz_reader("no such reader", 0.5, 1, tmp_path)
    assert "exit status 1" in result["faults"]["process"]["error"]


def test_a_mistake_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0"]) == 2
    assert capsys.readouterr().err == "error: --seconds must be at least 1, not 0\n"
