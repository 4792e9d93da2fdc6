"""Measured traces from published files: each step by hand, and all sixty traces where the files are present."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vitmalis import repository_files
from vitmalis.network import fetch
from vitmalis.network.measured import assemble, samples, sources
from vitmalis.network.measured.assemble import make_traces
from vitmalis.network.measured.recipe import Piece, recipe
from vitmalis.network.measured.sources import source_files
from vitmalis.paths import file_sha256
from vitmalis.repository_files import RepositoryFile, gather

MIRRORS = Path(__file__).parents[3] / ".mirror" / "checkouts"
SAME_COLUMNS = (
    "name", "path", "technology", "mobility", "operator", "source_repo", "n_segments", "segment_starts_s",
)  # fmt: skip
"""Columns that equal those of the expected listing; the others are worded differently."""
EXPECTED = Path(__file__).parents[3] / "shared" / "data" / "traces"


def test_runs_of_a_list_and_means_of_ten() -> None:
    runs = samples.read_runs("\n####\nRun 1\n1,2,3,\n####\nRun 12\n0.1,0.2\n5,6\n")
    assert list(runs) == [1, 12]
    np.testing.assert_array_equal(runs[1], [[1, 2, 3]])
    np.testing.assert_array_equal(runs[12], [[0.1, 0.2], [5, 6]])
    np.testing.assert_array_equal(samples.means(np.arange(25.0), 10), [4.5, 14.5])
    np.testing.assert_array_equal(samples.means(np.full(10, 0.1), 10), [0.09999999999999999])  # one after another


def test_logs_of_nuttcp_and_ping() -> None:
    line = "    0.0625 MB /   0.10 sec = {:9.4f} Mbps     0 retrans   1228 KB-cwnd\n"
    log = "nuttcp-r: socket\n" + "".join(line.format(mbps) for mbps in range(21)) + "nuttcp-r: 93.7 MB = 20.2 Mbps\n"
    np.testing.assert_allclose(samples.nuttcp_mbps(log), [4.5, 14.5])
    ping = "PING host\n" + "".join(f"46 bytes: icmp_seq={n} ttl=56 time={n} ms\n" for n in range(1, 12))
    np.testing.assert_allclose(samples.ping_ms(ping), [3, 8])


def test_two_legs_are_added() -> None:
    """5G in the first second only, LTE in both; a repeated sample counts once, a bin without samples does not count."""
    nr_s = np.arange(10) / 10
    lte_s = np.r_[np.arange(5, 19) / 10, 1.8]
    nr, lte = np.full(10, 20.0), np.r_[np.full(14, 3.0), 3.0]
    seconds = samples.two_legs_mbps([nr_s, nr, lte_s, lte], 0.0, 2.0)
    # First second: 10 bins of 20, 3 more in 5 of them. Second: 9 bins of 3, the tenth without a record.
    np.testing.assert_allclose(seconds, [20 + 3 * 5 / 10, 3.0])


def test_jumping_time_stamps_are_smoothed() -> None:
    time_s = np.arange(300) / 10
    jumping = time_s.copy()
    jumping[100:110] += 1.0
    np.testing.assert_allclose(samples._smoothed(jumping), time_s, atol=1e-9)


def test_a_value_holds_since_the_one_before_and_handovers_are_left_out() -> None:
    columns = ("TIME_STAMP", "ULtput", "modified_tech", "handover_status")
    header = ",".join(f"{column}_{side}" for side in "xy" for column in columns)
    rows = [
        "10.0,8,LTE,,10.1,1,LTE,",
        "10.4,4,LTE,,10.5,2,LTE,",
        "10.8,99,LTE,,10.9,,,Start",
        "11.4,6,LTE,,11.5,7,LTE,",
    ]
    # From 10.0: 4 for 0.4 s, then 6 until 11.0; the second after ends with the last sample.
    np.testing.assert_allclose(
        samples.driving_mbps([header, *rows], "atnt", 10.0, 12.0), [4 * 0.4 + 6 * 0.6, 6.0], rtol=1e-6
    )
    np.testing.assert_allclose(
        samples.driving_mbps([header, *rows], "verizon", 10.1, 11.1), [2 * 0.4 + 7 * 0.6], rtol=1e-6
    )


def test_the_recipe_is_complete() -> None:
    pieces = recipe()
    assert {piece.trace for piece in pieces} == {
        f"{kind}_{number:02d}" for kind in ("4g", "5g") for number in range(30)
    }
    per_sample = {"list": 0.1, "legs": 1.0, "nuttcp": 1.0, "driving": 1.0}
    for name in {piece.trace for piece in pieces}:
        own = [piece for piece in pieces if piece.trace == name and piece.part == "uplink"]
        assert sum((piece.end - piece.start) * per_sample[piece.method] for piece in own) == pytest.approx(300)
    assert {piece.file for piece in pieces} == set(source_files().values())


def small_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of one trace of three seconds, from three small files in a folder of checkouts."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ul.csv", "TIME_STAMP_x,ULtput_x,handover_status_x,handover_status_y\n5,1,,\n6,7,,\n")
    contents = {
        "up.list": ("Run 3\n" + ",".join(["2"] * 10 + ["4"] * 10)).encode(),
        "ul.zip": archive.getvalue(),
        "ping.out": b"".join(b"time=%d ms\n" % n for n in (10, 10, 10, 10, 10, 20, 20, 20, 20, 20)),
    }
    files = {}
    for name, content in contents.items():
        file = RepositoryFile(*sources.REPOSITORIES["memu"], name, "")
        path = file.below(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files[name] = RepositoryFile(*sources.REPOSITORIES["memu"], name, file_sha256(path))
    pieces = [
        Piece("4g_00", "uplink", 0, files["up.list"], "3", "list", 0, 20),
        Piece("4g_00", "uplink", 1, files["ul.zip"], "ul.csv:atnt", "driving", 5, 6),
        Piece("4g_00", "rtt", 0, files["ping.out"], "", "ping", 1, 4),
    ]
    for module in (assemble, fetch):
        monkeypatch.setattr(module, "recipe", lambda: pieces)
    monkeypatch.setattr(fetch, "source_files", lambda: {("memu", name): file for name, file in files.items()})


def test_from_a_mirror_to_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_recipe(tmp_path / "mirror", monkeypatch)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    arguments = ["--mirror", str(tmp_path / "mirror"), "--output", str(tmp_path / "out")]
    assert fetch.main(arguments) == 0
    assert "1 traces in" in capsys.readouterr().out
    trace = (tmp_path / "out/4g/4g_00.csv").read_text()
    assert trace == "time_s,uplink_mbps,rtt_ms\n0,2.000,20.00\n1,4.000,10.00\n2,7.000,20.00\n"
    (row,) = csv.DictReader((tmp_path / "out/traces.csv").read_text().splitlines())
    assert row == {
        "name": "4g_00", "path": "4g/4g_00.csv", "technology": "4G", "mobility": "not stated",
        "operator": "not stated+atnt", "source_repo": "NUWiNS/sigcomm-5gmemu-5g-mmWave-uplink-data",
        "source_files": "up.list; ul.zip",
        "runs_and_ranges": "up Run 3 [samples 0-20 of 0.1 s]; atnt ul [5.0..6.0 epoch s]",
        "n_segments": "2", "segment_starts_s": "0 2", "mean_mbps": "4.33", "min_mbps": "2.00", "max_mbps": "7.00",
        "mean_rtt_ms": "16.67", "rtt_files": "NUWiNS/sigcomm-5gmemu-5g-mmWave-uplink-data: ping.out", "rtt_from_s": "1",
    }  # fmt: skip
    for file in (tmp_path / "mirror").rglob("up.list"):
        file.unlink()
    assert fetch.main(arguments) == 0  # all files are in the cache
    damaged = next((tmp_path / "cache").rglob("up.list"))
    damaged.write_text("Run 3\n1,")  # as after a full disk: it is fetched again
    assert fetch.main(arguments) == 2
    assert "--mirror takes a folder with checkouts" in capsys.readouterr().err


def test_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_recipe(tmp_path / "mirror", monkeypatch)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    next((tmp_path / "mirror").rglob("ping.out")).write_text("time=1 ms\n")
    assert fetch.main(["--mirror", str(tmp_path / "mirror"), "--output", str(tmp_path / "out")]) == 2
    assert "is refused: sha256" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named_and_the_next_call_resumes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    publisher: list[str],
) -> None:
    small_recipe(tmp_path / "mirror", monkeypatch)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    ping = next((tmp_path / "mirror").rglob("ping.out"))
    away = ping.rename(ping.with_name("away"))
    assert fetch.main(["--output", str(tmp_path / "out")]) == 2
    assert "ping.out could not be downloaded (it answers 404 Not Found)" in capsys.readouterr().err
    away.rename(ping)
    assert fetch.main(["--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/4g/4g_00.csv").read_text().endswith("2,7.000,20.00\n")
    repository, commit = sources.REPOSITORIES["memu"]
    assert publisher == [f"/{repository}/{commit}/{name}" for name in ("up.list", "ul.zip", "ping.out", "ping.out")]


def test_offline_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_recipe(tmp_path / "mirror", monkeypatch)
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(repository_files, "HOST", "http://127.0.0.1:9")  # nothing listens there
    assert fetch.main(["--output", str(tmp_path / "out")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "up.list could not be downloaded" in line
    assert "--mirror" in line


@pytest.mark.skipif(
    not (MIRRORS.is_dir() and EXPECTED.is_dir()), reason="stored copies of the repositories are not here"
)
def test_the_stored_repositories_give_the_expected_traces(tmp_path: Path) -> None:
    list(gather(list(source_files().values()), tmp_path / "cache", MIRRORS))
    names = list(make_traces(tmp_path / "cache", tmp_path))
    assert len(names) == 60
    other_seconds = {}
    for name in names:
        ours, theirs = (folder / name[:2] / f"{name}.csv" for folder in (tmp_path, EXPECTED))
        lines = zip(ours.read_text().splitlines(), theirs.read_text().splitlines(), strict=True)
        if differing := sum(one != other for one, other in lines):
            other_seconds[name] = differing
    assert other_seconds == {}
    ours, theirs = (list(csv.DictReader((folder / "traces.csv").open(newline=""))) for folder in (tmp_path, EXPECTED))
    for own, other in zip(ours, theirs, strict=True):
        for column in SAME_COLUMNS:
            assert own[column] == other[column], (own["name"], column)
        for column in ("mean_mbps", "min_mbps", "max_mbps", "mean_rtt_ms"):
            assert float(own[column]) == pytest.approx(float(other[column]), abs=0.011), (own["name"], column)
