"""Every shipped experiment: it sweeps without -m, has the grid it says, and each of its runs is typed."""

from __future__ import annotations

import itertools

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from vitmalis.video.manifest import manifest
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.evaluation.sweep import runs_with_new_values
from vitmalis_jobs.run.config import OutputOptions, typed

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
SIZES = {
    "quick": 10,
    "ablation": 60,
    "fig8": 360,
    "fig12": 288,
    "table2": 216,
    "oracle": 72,
    "geometry": 72,
    "full": 2400,
    "fixed": 2592,
    "injection": 144,
    "devices": 96,
    "field": 1440,
    "sensitivity": 672,
}


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate", overrides=list(overrides), return_hydra_config=hydra)


def jobs(*overrides: str) -> list[list[str]]:
    """The overrides of every run, as Hydra's sweeper finds them."""
    params = composed(*(o for o in overrides if "," not in o), hydra=True).hydra.sweeper.params
    parsed = OverridesParser.create().parse_overrides([*(f"{key}={params[key]}" for key in params), *overrides])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return batch


def test_every_experiment_is_known_here() -> None:
    assert set(SIZES) == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_sweeps_its_grid(name: str) -> None:
    assert composed(f"experiment={name}", hydra=True).hydra.mode.name == "MULTIRUN"
    runs = jobs(f"experiment={name}")
    assert len(runs) == len({tuple(run) for run in runs}) == SIZES[name]
    # Options of one run do not change what those of another mean, so each value has to compose once.
    for run in runs_with_new_values(runs):
        options = typed(composed(*run))
        assert options.clock.name == "virtual"
        assert options.trace["start_s"] == (0 if name == "full" else "drawn")
        assert options.output == OutputOptions(video_seconds=0, figures=False, page=False)


def test_the_full_grid_is_the_papers() -> None:
    runs = [dict(option.split("=", 1) for option in run) for run in jobs("experiment=full")]
    assert {run["video"] for run in runs} == {"walkS", "walkB", "walkR", "driveN", "cycleS"}
    traces = {(run["trace"], run["trace.index"]) for run in runs}
    assert traces == {(kind, str(i)) for kind, i in itertools.product(("4g", "5g"), range(30))}
    assert len({run["policy"] for run in runs}) == 8
    options = typed(composed("experiment=full"))
    assert options.eval.seconds == 300
    assert (options.model.name, options.model.window, options.model.downsampling_factor) == ("vitdet_l", 9, 2)


def test_real_clips_are_added_by_one_override() -> None:
    assert len(jobs("experiment=fig8", "clips=all")) == 10 * 12 * 5
    assert len(jobs("experiment=fig8", "video=drive_day,indoor")) == 2 * 12 * 5


@pytest.mark.parametrize(
    "traces",
    [["trace=4g,5g,measured_4g,measured_5g", "trace.index=0,15"], ["trace=4g,file", "++trace.path=mine.csv"]],
)
def test_generated_and_other_traces_are_mixed_by_overrides(traces: list[str]) -> None:
    for run in jobs("experiment=fig8", "video=indoor", "policy=trackb2b", *traces):
        options = typed(composed(*run)).trace
        assert options["start_s"] == "drawn"
        kind = next(choice for choice in run if choice.startswith("trace="))
        assert (options.get("source") == "generated") == (kind in ("trace=4g", "trace=5g"))
        assert options["kind"] == ("file" if kind == "trace=file" else "cellular")


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "clips").glob("*.yaml")))
def test_clips_are_known_ones(name: str) -> None:
    hydra = composed(f"clips={name}", hydra=True).hydra
    assert set(hydra.sweeper.params.video.split(",")) <= set(manifest())
    assert hydra.mode.name == "MULTIRUN", "a preset that only a sweep reads makes it one"


def test_real_time_is_one_override_away() -> None:
    assert typed(composed("experiment=fig8", "clock=realtime")).clock.name == "realtime"
