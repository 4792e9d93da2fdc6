"""The best fixed configurations in hindsight, and the choice on profile parts, by hand-computed means."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from test_study_report import write_run

from vitmalis.errors import UserError
from vitmalis_jobs.evaluation.fixed_configuration import choose as choose_configuration
from vitmalis_jobs.evaluation.study.cli import main
from vitmalis_jobs.evaluation.study.hindsight import (
    BEST_OF_ALL,
    BEST_OF_CLIP,
    BEST_OF_PAIR,
    choose,
    configurations,
    table,
    with_hindsight,
)
from vitmalis_jobs.run.config import composed

SLOW, FAST = "fixed (policy.quality=95)", "fixed (policy.quality=75)"
F1 = {
    ("walk", "4g_00"): (0.4, 0.6), ("walk", "5g_00"): (0.7, 0.6),  # means 0.55 and 0.6
    ("drive", "4g_00"): (0.8, 0.5), ("drive", "5g_00"): (0.8, 0.6),  # means 0.8 and 0.55
}  # fmt: skip
"""Rendering F1 of quality 95 and 75; over clips 0.675 and 0.575."""


OTHERS = (("trackb2b", 0.3), ("fixed (policy.quality=default)", 0.5))


def runs() -> pd.DataFrame:
    rows = [
        {"policy": policy, "clip": clip, "trace": trace, "rendering_f1": f1, "configuration": policy}
        for (clip, trace), pair in F1.items()
        for policy, f1 in (*zip((SLOW, FAST), pair, strict=True), *OTHERS)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_best_of_the_pair_the_clip_and_the_study() -> None:
    best = choose(configurations(runs())).set_index(["clip", "trace"])
    assert best.loc[("walk", "4g_00")].tolist() == [FAST, FAST, SLOW]
    assert best.loc[("walk", "5g_00")].tolist() == [SLOW, FAST, SLOW]
    assert best.loc[("drive", "4g_00")].tolist() == [SLOW, SLOW, SLOW]


def test_only_configurations_played_on_all_pairs_can_be_best_of_more_than_a_pair() -> None:
    some = runs().query("not (policy == @SLOW and clip == 'drive' and trace == '5g_00')")
    best = choose(configurations(some)).set_index(["clip", "trace"])
    assert best.loc[("drive", "4g_00")].tolist() == [SLOW, FAST, FAST]


def test_three_bounds_replace_the_configurations_and_the_default_keeps_its_name() -> None:
    shown = with_hindsight(runs())
    means = shown.groupby("policy")["rendering_f1"].mean().round(4).to_dict()
    assert means == {
        "trackb2b": 0.3,
        "fixed": 0.5,
        BEST_OF_PAIR: 0.725,  # 0.6, 0.7, 0.8, 0.8
        BEST_OF_CLIP: 0.7,
        BEST_OF_ALL: 0.675,
    }


def test_a_study_without_several_fixed_configurations_stays_as_it_is() -> None:
    one = runs().query("policy != @SLOW")
    assert with_hindsight(one) is one
    assert table(one).empty


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    number = 0
    for clip, f1s in (("walk", (0.4, 0.6)), ("drive", (0.8, 0.5))):
        for quality, f1 in zip((95, 75), f1s, strict=True):
            write_run(tmp_path, number, "fixed", clip, f1, "FINISHED", f"policy.quality={quality}")
            write_config(tmp_path / str(number), quality)
            number += 1
    return tmp_path


def write_config(run_dir: Path, quality: int, part: str = "profile") -> None:
    import msgspec

    config = composed(["policy=fixed", f"policy.quality={quality}", f"eval.part={part}", "clock=virtual"])
    (run_dir / "config.yaml").write_bytes(msgspec.yaml.encode(config))


def test_the_choice_is_the_best_mean_over_clips_of_the_profile_parts(sweep: Path) -> None:
    choice = choose_configuration(sweep)
    assert (choice["quality"], choice["rendering_f1"], choice["configurations"]) == (95, 0.6, 2)
    assert json.loads((sweep / "fixed_configuration.json").read_text())["clips"] == ["drive", "walk"]
    written = pd.read_csv(sweep / "fixed_configurations.csv")
    assert written["quality"].tolist() == [95, 75]
    assert written["rendering_f1"].tolist() == [0.6, 0.55]
    assert written["walk"].tolist() == [0.4, 0.6]


def test_eval_parts_are_refused(sweep: Path) -> None:
    write_config(sweep / "0", 95, part="eval")
    with pytest.raises(UserError, match=r"played the eval parts .* choose from a sweep with eval.part=profile"):
        choose_configuration(sweep)


def test_the_report_names_the_best_configurations(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, clip in enumerate(("walk", "drive"), start=4):
        write_run(sweep, number, "trackb2b", clip, 0.3)
    assert main([str(sweep), "--no-mlflow"]) == 0
    report = sweep / "report"
    assert "quality=75,0.6,quality=75,0.6,quality=95,0.4" in (
        report / "best_fixed_configurations_in_hindsight.csv"
    ).read_text()  # fmt: skip
    policies = [line.split(",")[0] for line in (report / "policies.csv").read_text().splitlines()]
    assert policies == ["policy", "trackb2b", BEST_OF_PAIR, BEST_OF_CLIP, BEST_OF_ALL]
    assert "Share of the gap to fixed (best of the pair)" in (report / "report.html").read_text()
