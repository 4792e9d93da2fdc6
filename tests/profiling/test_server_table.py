"""The table of a measured server, made from results of the prototype or of `profiling.inference`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vitmalis.virtual.measured_testbed import h200_table
from vitmalis_jobs.profiling.server_table import lines, main


def prototype_results(folder: Path) -> None:
    """Two files as the prototype writes them."""
    about = {"gpu": "NVIDIA X", "torch": "2.11"}
    rows = [
        {"share": share, "point": point, "flop_ratio": ratio, "graph": {"ms": ms}, "tflops": 1.0}
        for share, point, ratio, ms in ((0.0, 0, 1.0, 10.0), (0.5, 4, 0.6, 6.0), (0.5, 1, 0.9, 9.0))
    ]
    (folder / "backbone2.json").write_text(json.dumps({"about": about, "speed L": rows, "B": {"speed": rows}}))
    whole = {"share 0.0": {"ms": 16.0, "boxes": 100}, "share 0.5": {"ms": 13.0}}
    (folder / "detector2.json").write_text(json.dumps({"end to end": whole}))


def inference_result(**changes: Any) -> dict[str, Any]:
    """A result of `profiling.inference`, as far as the table needs it."""
    row = {"downsampled_share": 0.5, "restoration_point": 4, "flop_ratio": 0.6, "vit_ms": 6.0, "detector_ms": 12.0}
    facts = {"card": "NVIDIA X", "date": "2026-12-01", "torch": "2.14", "precision": "bf16", "engine": "eager"}
    geometry = {"width": 1920, "height": 1080, "window": 9, "downsampling_factor": 2}
    plain = {"backbone_ms": 10.0, "detector_ms": 15.0}
    known = {"model": "vitdet_l", "git_commit": "abc", "plain": plain, "rows": [row]}
    return {**known, **facts, **geometry, **changes}


def test_results_of_the_prototype(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prototype_results(tmp_path)
    output = tmp_path / "table.json"
    assert main(["--prototype", str(tmp_path), "--date", "2026-11", "--output", str(output)]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table == json.loads(output.read_text())
    assert (table["card"], table["date"], table["torch"]) == ("NVIDIA X", "2026-11", "2.11")
    assert [row["detector_ms"] for row in table["models"]["vitdet_l"]] == [16.0, 13.0, None]
    assert [row["detector_ms"] for row in table["models"]["vitdet_b"]] == [None, None, None]
    assert [row["backbone_ms"] for row in table["models"]["vitdet_b"]] == [10.0, 6.0, 9.0]


def test_results_of_the_inference_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "l.json", tmp_path / "b.json"]
    for path, model in zip(paths, ("vitdet_l", "vitdet_b"), strict=True):
        path.write_text(json.dumps(inference_result(model=model)))
    assert main([*map(str, paths), "--output", str(tmp_path / "table.json")]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["code"] == "commit abc, engine eager"
    for model in ("vitdet_l", "vitdet_b"):
        assert [(row["share"], row["backbone_ms"], row["detector_ms"]) for row in table["models"][model]] == [
            (0.0, 10.0, 15.0),
            (0.5, 6.0, 12.0),
        ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"card": "NVIDIA Y"}, "has card NVIDIA Y"), ({"precision": "fp32"}, "precision fp32"), ({"rows": 3}, "damaged")],
)
def test_results_that_do_not_go_together_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, result in (("l.json", inference_result()), ("b.json", inference_result(model="vitdet_b", **changes))):
        (tmp_path / name).write_text(json.dumps(result))
    assert main([str(tmp_path / "l.json"), str(tmp_path / "b.json"), "--output", str(tmp_path / "t.json")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a.json", "--prototype", "folder"]])
def test_one_kind_of_results_is_given(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "give results of profiling.inference, or --prototype" in capsys.readouterr().err


def test_lines_of_the_table_in_the_package() -> None:
    rows = {(row["model"], row["restoration_point"]): row for row in lines(h200_table())}
    assert set(rows) == {(model, point) for model in ("vitdet_l", "vitdet_b") for point in range(5)}
    last = rows["vitdet_l", 4]
    assert (last["plain_ms"], last["half_ms"], last["all_ms"], last["r2"]) == (21.43, 19.7, 12.66, 0.897)
    assert last["backbone_r2"] > 0.99


def test_the_table_in_the_package_is_what_the_job_makes(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = shared / "gpu" / "results"
    assert main(["--prototype", str(results), "--date", "2026-11", "--output", str(tmp_path / "h200.json")]) == 0
    package = Path(__file__).parents[2] / "src" / "vitmalis" / "virtual" / "h200.json"
    assert (tmp_path / "h200.json").read_bytes() == package.read_bytes()
