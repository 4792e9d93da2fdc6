"""A run's policy before anything starts: mistakes come before measurements, stand-ins are said."""

from __future__ import annotations

from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
import torch

from vitmalis.errors import UserError
from vitmalis.estimation import load_latency_tables, save_latency_tables
from vitmalis.network.traces import resolve_trace
from vitmalis.network.traces.trace import CONSTANT_PERIOD_S
from vitmalis.policy import POLICIES
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import prepare
from vitmalis_jobs.run.config import EvaluationConfig, composed
from vitmalis_jobs.run.describe import describe, played_trace, stand_ins
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.spec import PreparedRun


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((96, 160, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode())
    return path


def configured(clip: Path, **policy: str) -> EvaluationConfig:
    overrides = ["policy=vitmalis", "video=file", f"video.path={clip}", "trace=constant", "eval.seconds=1"]
    overrides += [f"policy.{key}={value}" for key, value in policy.items()]
    return composed(overrides)


def prepared(config: EvaluationConfig) -> PreparedRun:
    return prepare_run(resolve_run(config), Terminal())


@pytest.mark.parametrize(
    ("choice", "option", "text"),
    [
        ("video=file", "video.path=20240501", "20240501"),
        ("trace=file", "trace.path=12", "12"),
        ("trace=4g", "trace.source=5", "5"),
        ("policy=vitmalis", "policy.estimators=2.5", "2.5"),
    ],
)
def test_a_number_where_a_path_is_meant_is_text(choice: str, option: str, text: str) -> None:
    section, key = option.partition("=")[0].split(".")
    assert getattr(composed([choice, option]), section)[key] == text


def test_numbers_as_text_in_typed_sections() -> None:
    config = composed(["sweep.name=2024", "model.weights=12"])
    assert (config.sweep.name, config.model.weights) == ("2024", "12")


def test_a_trace_file_of_digits_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "12").write_text("".join(f"{ms}\n" for ms in range(1, 1001)))
    monkeypatch.chdir(tmp_path)
    assert resolve_run(composed(["trace=file", "trace.path=12"])).trace.name == "12"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["video=file", "video.path=true"], "video.path=True: expected `str | null`, got `bool`"),
        (["video=file", "video.path=a.mp4", "video.fps=fast"], "video.fps=fast: expected `float | null`, got `str`"),
        (["trace=constant", "trace.mbps=slow"], "trace.mbps=slow: expected `float`, got `str`"),
        (["link.queue_bytes=no"], "link.queue_bytes=no: expected `int`, got `str`"),
        (["+video.x=1"], "video: object contains unknown field `x`"),
        (["link.transport=udp"], "link.transport=udp: choose one of ideal, tcp"),
        (["clock.name=fast"], "clock.name=fast: choose one of realtime, virtual"),
        (["eval.seconds=inf"], "eval.seconds=inf: expected `float` <= 1000000000.0"),
        (["model.max_width=1000000"], "model.max_width=1000000: expected `int` <= 8192"),
        (["references.workers=100000"], "references.workers=100000: expected `int` <= 1024"),
        (["trace.capacity_scale=half"], "trace.capacity_scale=half: give a number or auto"),
        (["trace.start_s=soon"], "trace.start_s=soon: give a number or drawn"),
        (["~policy"], "configuration: object missing required field `policy`"),
        (["trace=null"], "trace=null: a group takes the name of one of its choices; leave it out for its default"),
        (["policy.name=[a]"], "policy.name=['a']: expected `str`, got `array`"),
    ],
)
def test_sections_that_depend_on_a_choice_are_typed(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        composed(overrides)
    assert str(caught.value) == message


def test_a_mistyped_policy_option_is_found_without_latency_tables() -> None:
    with pytest.raises(UserError, match=r"policy 'vitmalis': restoration_points=\[1\.5\]: Expected `int`"):
        resolve_run(composed(["policy=vitmalis", "policy.restoration_points=[1.5]"]))
    with pytest.raises(UserError, match="policy 'trackb2b': quality=True: Expected `int`, got `bool`"):
        resolve_run(composed(["policy.quality=true"]))


def test_the_home_folder_may_be_written_as_a_tilde() -> None:
    config = composed(["video=file", "video.path='~/a.mp4'", "client.keys='~/keys'"])
    assert config.video["path"] == str(Path.home() / "a.mp4")
    assert config.client.keys == str(Path.home() / "keys")


def test_missing_estimators_are_reported_before_tables_are_measured(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "run_tables", lambda *_: pytest.fail("measured for a policy that cannot be"))
    with pytest.raises(UserError, match=r"no estimators of model .*training\.estimators"):
        prepared(configured(clip, estimators=str(tmp_path)))


def test_missing_tables_are_measured_and_given_to_the_client(
    clip: Path, vitmalis_options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "run_tables", lambda *_: Path(vitmalis_options["latency_tables"]))
    run = prepared(configured(clip, estimators=vitmalis_options["estimators"]))
    session = run.session("tcp://127.0.0.1:1", Path("unused"))
    assert session.policy_options["latency_tables"] == vitmalis_options["latency_tables"]


def test_estimators_of_another_model_are_a_stand_in(
    clip: Path, tmp_path: Path, vitmalis_options: dict[str, str]
) -> None:
    own = load_latency_tables(Path(vitmalis_options["latency_tables"]))
    save_latency_tables(msgspec.structs.replace(own, model_id="retrained"), tmp_path / "tables.json")
    foreign = vitmalis_options | {"latency_tables": str(tmp_path / "tables.json")}
    assert "policy" not in stand_ins(prepared(configured(clip, **vitmalis_options)))
    said = stand_ins(prepared(configured(clip, **foreign)))["policy"]
    assert said == "estimators learned from samples of vitdet_tiny vitdet_tiny-test, used with retrained"


def described_trace(clip: Path, *overrides: str) -> tuple[str, str | None]:
    run = prepared(composed(["video=file", f"video.path={clip}", *overrides]))
    return describe(run)["trace"], stand_ins(run).get("trace")


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_is_described_by_what_is_not_its_default(clip: Path, name: str) -> None:
    virtual = ["clock=virtual", "latency=paper_testbed"]
    run = prepared(composed(["video=file", f"video.path={clip}", f"policy={name}", *virtual]))
    said = describe(run)["policy"]
    assert said.startswith(name)
    shown = said.partition(" (")[2].rstrip(")")
    assert {option.split()[0] for option in shown.split(", ") if option} <= {"quality", "estimator"}


def test_the_played_part_of_the_trace_is_described(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("time_s,uplink_mbps,rtt_ms\n0,2,10\n0.5,6,30\n1,8,50\n1.5,4,70\n2,90,90\n")
    mine = ["trace=file", f"trace.path={tmp_path}/mine.csv"]
    played = "mean 4.0 Mbps, RTT 20 ms in the 1 s that are played"
    assert described_trace(clip, *mine, "eval.seconds=1") == (f"mine: {played}", None)
    played = "mean 6.0 Mbps, RTT 60 ms in the 1 s that are played, from 1 s on"
    assert described_trace(clip, *mine, "trace.start_s=1") == (f"mine: {played}", None)
    said, stand_in = described_trace(clip, *mine, "trace.capacity_scale=0.5")
    assert said.startswith("mine, capacity x 0.5: mean 2.0 Mbps")
    assert stand_in == "at 0.5 of its capacity (trace.capacity_scale)"
    said, stand_in = described_trace(clip, *mine, "trace.rtt_scale=2", "eval.seconds=1")
    assert said == "mine, RTT x 2: mean 4.0 Mbps, RTT 40 ms in the 1 s that are played"
    assert stand_in == "at 2 of its round-trip times (trace.rtt_scale)"
    said, stand_in = described_trace(clip, "trace=4g")
    assert said.startswith("4g_18, capacity x 0.354: mean")
    assert stand_in == "generated by a model of measured traces, at 0.354 of its capacity (trace.capacity_scale)"


def test_the_device_of_this_machine_is_recorded() -> None:
    asked = composed(["trace=constant"])
    assert asked.model.device == "auto"
    assert resolve_run(asked).config.model.device == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("weights", ["random", "null"])
def test_random_weights_are_a_stand_in(clip: Path, weights: str) -> None:
    overrides = ["video=file", f"video.path={clip}", "trace=constant", f"model.weights={weights}"]
    expected = {"random": "random weights of vitdet_tiny: its boxes mean nothing"}
    run = prepared(composed(overrides))
    assert stand_ins(run)["model"] == expected.get(weights, "small embedded model for ViTDet-L")


def test_the_typical_trace_is_recorded_by_its_number() -> None:
    asked = composed(["trace=5g"])
    assert asked.trace["index"] == "typical"
    recorded = composed(["trace=5g", "trace.index=10", "trace.capacity_scale=0.354"]).trace
    assert resolve_run(asked).config.trace == recorded


def test_a_file_is_played_by_a_study_that_asks_for_typical_traces(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("time_s,uplink_mbps,rtt_ms\n0,2,10\n1,8,50\n")
    given = ["trace=file", f"trace.path={tmp_path}/mine.csv", "trace.index=typical"]
    assert resolve_run(composed(given)).trace_name == "mine"


def test_a_drawn_start_is_recorded_and_the_same_for_all_runs_of_a_pair() -> None:
    def start_s(*options: str) -> float:
        spec = resolve_run(composed(["trace.start_s=drawn", *options]))
        played = {key: spec.config.trace[key] for key in ("start_s", "capacity_scale")}
        begun = composed(["trace.start_s=0", *options]).trace | played
        assert spec.trace.uplink_mbps_at(0) == resolve_trace(**begun).uplink_mbps_at(0)
        assert played_trace(spec)["start_s"] == begun["start_s"]
        return float(begun["start_s"])

    drawn = start_s()
    assert drawn == start_s("policy=back2back", "clock=virtual", "latency=paper_testbed", "eval.seconds=3")
    others = (["video=walkS"], ["trace.index=3"], ["trace=5g"], ["trace.seed=2"], ["eval.part=profile"])
    assert len({drawn, *(start_s(*options) for options in others)}) == 6
    assert start_s("trace=constant") < CONSTANT_PERIOD_S


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["latency=paper_testbed"], "add clock=virtual"),
        (["latency.factors.inference=0.5"], r"latency.factors \(inference x 0.5\) .* add clock=virtual"),
        (["latency=h200"], "latency=h200 .* add clock=virtual"),
        (
            ["latency=h200", "latency.model=vitdet_h", "clock=virtual"],
            "vitdet_h: .* vitdet_l and vitdet_b",
        ),
        (["policy=oracle"], "only the virtual clock"),
        (["policy=oracle", "clock=virtual", "model.weights=random"], "random weights have not"),
        (["policy=freshness", "policy.inject=[f1]"], r"policy.inject=\['f1'\] .* only the virtual clock"),
        (["policy=vitmalis", "policy.inject=[f1]", "clock=virtual", "model.weights=random"], "random weights have not"),
        (["clock=virtual", "server.spawn=false"], "no server elsewhere"),
        (["clock=virtual", "video=camera"], "plays in real time only"),
        (["clock=virtual", "output.live=true"], "output.live=true shows a run that plays in real time"),
        (["output.record=true"], "output.record=true: video 'market1906' can be read again anyway"),
    ],
)
def test_what_a_clock_cannot_do_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_run(composed(overrides))


def test_resolving_touches_nothing(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITMALIS_CACHE", raising=False)
    spec = resolve_run(composed([f"video.path={clip}", "video=file", "clock=virtual", "policy=vitmalis", "trace=5g"]))
    assert (spec.clip_name, spec.trace_name, spec.needs_tables) == ("clip", "5g_10", True)
    assert spec.title == "vitmalis-clip-5g_10"
    assert (spec.model.geometry.window, spec.model.config.name) == (5, "vitdet_tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trace=file", "trace.path=none.csv"], "none.csv"),
        (["trace.index=99"], "trace.index is 99"),
        (["model.name=vitdet_none"], "vitdet_none"),
        (["policy.quality=0"], "quality"),
        (["client.keys=folder"], "give a folder to both"),
    ],
)
def test_mistakes_are_found_before_anything_is_prepared(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_run(composed(overrides))


HYSTERESIS = "references.hysteresis={appear: 0.55, stay: 0.35}"


def test_references_with_hysteresis_are_named(clip: Path) -> None:
    played = ["video=file", f"video.path={clip}", "trace=constant", "eval.seconds=1"]
    assert "references" not in stand_ins(prepared(composed(played)))
    said = stand_ins(prepared(composed([*played, HYSTERESIS])))["references"]
    assert said == "objects with hysteresis of scores, from 0.55 on, down to 0.35"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["references.hysteresis={appear: 0.4, stay: 0.5}"], r"stay=0\.5 must lie above 0 and below appear=0\.4"),
        ([HYSTERESIS, "eval.score_threshold=0.7"], r"hysteresis\.appear=0\.55 is below eval\.score_threshold=0\.7"),
        (["references.hysteresis=true"], r"references\.hysteresis=True: expected `object | null`"),
    ],
)
def test_hysteresis_that_makes_no_sense_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_run(composed(overrides))
