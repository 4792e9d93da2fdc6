"""The trace fit on "measured" traces that the generator made."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from vitmalis.errors import UserError
from vitmalis.network.traces import resolve_trace, save_trace
from vitmalis.network.traces.generate import TraceModel, generate
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.trace_model.comparison import BEGIN, END
from vitmalis_jobs.training.trace_model.config import TraceFitConfig
from vitmalis_jobs.training.traces import fit_traces, load_measured


def composed(folder: Path, *overrides: str) -> TraceFitConfig:
    places = [f"source={folder}"]
    places += [f"{key}={folder / name}" for key, name in (("page", "page.md"), ("figure", "figure.png"))]
    places += [f"model_path={folder / 'model.json'}", f"folder={folder / 'generated'}"]
    return checked(compose("fit_traces", [*places, *overrides]), TraceFitConfig)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of thirty traces of each technology: ten by bus, twenty on foot."""
    folder = tmp_path_factory.mktemp("measured")
    rows = ["name,technology,mobility,path"]
    for technology in ("4g", "5g"):
        (folder / technology).mkdir()
        for index in range(30):
            path = f"{technology}/{technology}_{index:02d}.csv"
            save_trace(resolve_trace("cellular", technology=technology, index=index, seed=5), folder / path)
            rows.append(f"{technology}_{index:02d},{technology},{'bus' if index < 10 else 'foot'},{path}")
    (folder / "traces.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_fits_every_group_and_compares(measured: Path) -> None:
    (measured / "page.md").write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    small = ("restarts=1", "iterations=2", "uplink_regimes=2", "rtt_regimes=2", "few_regimes=1", "split_from=15")
    fit_traces(composed(measured, *small, "compare_seeds=1"))
    model = msgspec.json.decode((measured / "model.json").read_bytes(), type=TraceModel)
    for groups in model.technologies.values():
        assert [(g.mobility, g.coverage, g.traces) for g in groups] == [
            ("bus", "any", 10), ("foot", "weak", 10), ("foot", "strong", 10),
        ]  # fmt: skip
        assert [len(g.uplink.start) for g in groups] == [1, 2, 2]
    assert str(measured) not in (measured / "model.json").read_text()
    assert "| 5G | measured | generated | 1 other seeds |" in (measured / "page.md").read_text()
    assert (measured / "figure.png").read_bytes().startswith(b"\x89PNG")
    played = resolve_trace("cellular", technology="5g", index=7, source=str(measured / "generated"))
    expected = generate("5g", 7, model=model)
    assert played.uplink_mbps.tolist() == expected.uplink_mbps.tolist()
    assert played.rtt_ms.tolist() == expected.rtt_ms.tolist()


def test_without_a_fit_only_page_and_figure_are_written(measured: Path, tmp_path: Path) -> None:
    fit_traces(composed(tmp_path, f"source={measured}", "fit=false", "compare_seeds=0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "page.md"]


def test_a_missing_or_incomplete_set_is_an_error(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"traces\.csv is not there; give source=<folder"):
        load_measured(tmp_path)
    (tmp_path / "traces.csv").write_text("\n".join((measured / "traces.csv").read_text().splitlines()[:30]))
    (tmp_path / "4g").symlink_to(measured / "4g")
    with pytest.raises(UserError, match="lists 29 4g traces"):
        load_measured(tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_slope=1", r"max_slope=1: expected `float` < 1\.0"),
        ("restarts=0", r"restarts=0: expected `int` >= 1"),
        ("fit=perhaps", r"fit=perhaps: expected `bool`"),
        ("+regimes=3", "unknown field `regimes`"),
        ("page=null", r"page=None: expected `str`"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        composed(tmp_path, override)
