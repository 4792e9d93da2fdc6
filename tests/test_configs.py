from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path

import msgspec
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from vitmalis.detector.config import PRESETS
from vitmalis.network.traces import resolve_trace
from vitmalis.policy import POLICIES, build_policy, policy_parameters
from vitmalis.server.admission import default_max_pixels
from vitmalis.tracker import LucasKanadeOptions
from vitmalis.video.manifest import manifest
from vitmalis_jobs.run.config import config_hash, flat, typed
from vitmalis_jobs.run.resolve import chosen

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("video", "trace", "link", "model", "policy", "tracker", "client", "server", "clock", "latency")
JOBS = sorted(path.stem for path in CONF.glob("*.yaml"))
NEEDED = {
    "trace/file": ["trace.path=x.csv"],
    "video/file": ["video.path=x.mp4"],
    "model/detectron2": ["model.config=vitdet.py", "model.weights=vitdet.pkl"],
    "model/timm": ["model.name=vit_tiny_patch16_224"],
    "server/remote": ["server.address=tcp://edge:5555"],
}
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
OPTIONS = [*FILES, *(("video", name) for name in manifest())]


def composed(*overrides: str, job: str = "evaluate", hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(job, overrides=list(overrides), return_hydra_config=hydra)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_is_typed(group: str, option: str) -> None:
    config = typed(composed(f"{group}={option}", *NEEDED.get(f"{group}/{option}", [])))
    assert flat(config)


def test_runs_of_boxes_have_the_hash_from_before_there_were_tasks() -> None:
    boxes, instances, by_boxes = (
        typed(composed(option)) for option in ("model.task=boxes", "model.task=instances", "client.relevance=boxes")
    )
    sections = msgspec.to_builtins(boxes)
    for section in ("mlflow", "output", "inference_cache", "sweep"):
        del sections[section]
    del sections["references"]["workers"], sections["model"]["task"], sections["client"]["relevance"]
    assert config_hash(boxes) == hashlib.sha256(msgspec.json.encode(sections, order="deterministic")).hexdigest()[:12]
    assert len({config_hash(config) for config in (boxes, instances, by_boxes)}) == 3, "a class may find masks, too"


def test_every_group_has_options() -> None:
    assert {group for group, _ in OPTIONS} == set(GROUPS)


def test_the_trackers_defaults_are_those_of_the_library() -> None:
    assert typed(composed()).client.tracker == LucasKanadeOptions()


@pytest.mark.parametrize("model", sorted(PRESETS))
def test_a_server_by_default_takes_the_frames_that_cameras_deliver_to_its_model(model: str) -> None:
    options = typed(composed(f"model={model}")).model
    assert default_max_pixels(model) == options.max_width * options.max_height


def test_every_policy_has_a_config_that_builds_it() -> None:
    names = {option for group, option in OPTIONS if group == "policy"}
    assert names == {*POLICIES, "wo_regtype", "wo_mlps", "wo_dynares"}
    for name in names:
        config = typed(composed(f"policy={name}"))
        assert config.policy_name == name, "runs are called as they were asked for"
        if "latency_tables" in config.policy_options:
            parameters = policy_parameters(config.policy_kind)
            assert set(config.policy_options) == set(parameters), "every option is shown, none is unknown"
        else:
            assert isinstance(build_policy(config.policy_kind, **config.policy_options), POLICIES[name])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("wo_regtype", {"tau_ds": [0, 2]}),
        ("wo_mlps", {"estimator": "mean"}),
        ("wo_dynares", {"restoration_points": [4]}),
    ],
)
def test_an_ablation_is_the_full_policy_with_one_part_replaced(name: str, changed: dict[str, object]) -> None:
    full, ablated = typed(composed("policy=vitmalis")), typed(composed(f"policy={name}"))
    assert ablated.policy_kind == "vitmalis"
    assert ablated.policy_options == full.policy_options | changed


@pytest.mark.parametrize("name", POLICIES)
def test_defaults_of_policies_are_those_of_the_library(name: str) -> None:
    options = typed(composed(f"policy={name}")).policy_options
    for parameter in policy_parameters(name).values():
        assert options[parameter.name] == json.loads(json.dumps(parameter.default)), "tuples are lists in YAML"


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "trace"])
def test_a_trace_config_holds_arguments_of_resolve_trace(option: str) -> None:
    config = typed(composed(f"trace={option}", *NEEDED.get(f"trace/{option}", [])))
    assert set(config.trace) <= set(inspect.signature(resolve_trace).parameters)


@pytest.mark.parametrize("job", JOBS)
def test_every_job_keeps_the_working_directory_and_one_mlflow_store(job: str) -> None:
    config = composed(job=job, hydra=True)
    assert not config.hydra.job.chdir, "relative paths mean the same inside a job and outside"
    if "mlflow" in config:
        store = {"tracking_uri": "sqlite:///runs/mlflow.db", "artifact_dir": "runs/artifacts"}
        assert store.items() <= OmegaConf.to_container(config.mlflow).items()
        assert config.mlflow.experiment in ("evaluation", "profiling", "training")


@pytest.mark.parametrize("job", JOBS)
def test_no_job_reads_outside_the_project_by_default(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITMALIS_DATA", raising=False)
    assert "../" not in OmegaConf.to_yaml(composed(job=job), resolve=True)


def test_the_users_data_lie_where_the_environment_or_an_option_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMALIS_DATA", "/mnt/data")
    assert typed(composed("video=drive_day")).video == {"name": "drive_day", "folder": "/mnt/data/clips"}
    assert typed(composed("video=walkS", "paths.data=here")).video == {"name": "walkS", "folder": "here/videos"}
    assert typed(composed("video=market1906")).video == {"name": "market1906"}


@pytest.mark.parametrize(
    ("overrides", "scale"),
    [
        ([], 0.354),
        (["trace=5g", "model=vitdet_l"], 1.0),
        (["clock=virtual", "latency=paper_testbed"], 0.354),
        (["clock=virtual", "latency=h200", "model=vitdet_l"], 1.0),
        (["model.max_width=640", "model.max_height=1080"], 0.192),  # 640x360, a third of the side
        (["model.max_width=3840", "model.max_height=2160"], 1.0),
        (["trace=constant"], 1.0),
        (["trace=constant", "trace.capacity_scale=auto"], 0.354),
        (["trace.capacity_scale=0.25"], 0.25),
    ],
)
def test_the_trace_is_scaled_by_what_the_frames_stand_for(overrides: list[str], scale: float) -> None:
    assert chosen(typed(composed(*overrides))).trace["capacity_scale"] == scale


def test_the_hash_follows_what_was_asked_for() -> None:
    plain = config_hash(typed(composed()))
    assert plain == config_hash(typed(composed("mlflow.experiment=other", "output.video_seconds=0")))
    for change in (
        "policy=back2back",
        "eval.seconds=11",
        "trace.index=3",
        "client.tracker.grid=5",
        "policy.quality=80",
    ):
        assert config_hash(typed(composed(change))) != plain


def test_parameters_are_flat() -> None:
    parameters = flat(typed(composed()))
    assert parameters["policy.name"] == "trackb2b"
    assert parameters["client.tracker.scale"] == "0.5"
    assert not [key for key in parameters if key.startswith("mlflow")]
