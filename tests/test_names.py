"""Names that become part of a path do not lead out of their folder."""

from pathlib import Path

import pytest

from vitmalis.errors import UserError
from vitmalis.estimation.shipped import load_pair
from vitmalis.names import check_path_part
from vitmalis.network.traces import resolve_trace
from vitmalis.network.wire.security import make_keys
from vitmalis.video.clips import resolve_clip
from vitmalis_jobs.common.latency_tables import TablesKey

LEADING_OUT = ("../x", "..", "/tmp/x", "a/b", "a\\b")


IMPOSSIBLE = (
    "",
    " ",
    ".",
    "...",
    " a",
    "a ",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "NUL",
    "com1.txt",
    "x" * 201,
)


@pytest.mark.parametrize("name", [*LEADING_OUT, *IMPOSSIBLE])
def test_names_that_lead_out_or_cannot_be_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"sweep\.name=.*choose another") as caught:
        check_path_part("sweep.name", name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["walkS", "fig8.again", "..mine", "2026-11-27", "été", "policy (tau=1, beta=2)", "nullable"]
)
def test_other_names_are_fine(name: str) -> None:
    check_path_part("sweep.name", name)


@pytest.mark.parametrize("name", LEADING_OUT)
def test_no_reader_or_writer_takes_a_name_that_leads_out(tmp_path: Path, name: str) -> None:
    for use in (
        lambda: load_pair(name),
        lambda: resolve_trace(kind="cellular", technology=name, source=str(tmp_path)),
        lambda: resolve_clip(name, cache_dir=tmp_path, folder=str(tmp_path)),
        lambda: make_keys(tmp_path / "keys", [name]),
    ):
        with pytest.raises(UserError):
            use()


@pytest.mark.parametrize("name", LEADING_OUT)
def test_latency_tables_stay_in_their_folder(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))
    key = TablesKey(
        model=name, model_id="0123", width_px=320, height_px=192, device="cpu", client_threads=1, server_threads=1,
        engine="eager", compiled=False,
    )  # fmt: skip
    assert key.path().resolve().parent == tmp_path.resolve() / "latency"
