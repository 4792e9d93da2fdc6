"""Options of the model on command lines that are not Hydra's."""

from __future__ import annotations

import argparse

import pytest

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.machine import processor
from vitmalis_jobs.common.model_arguments import add_model_options, model_facts, model_options
from vitmalis_jobs.profiling import filtering
from vitmalis_jobs.profiling.real_clips import add_clip_options


def parsed(*arguments: str, **flags: object) -> ModelOptions:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="vitdet_tiny")
    parser.add_argument("--threads", type=int)
    add_model_options(parser)
    return model_options(parser.parse_intermixed_args(arguments), **flags)


def test_options_of_the_model_go_through_whole() -> None:
    options = ["model.precision=bf16", "--model", "vitdet_l", "model.device=cpu", "model.compile=true"]
    found = parsed(*options, "--threads", "2", "model.weights=random", window=9)
    assert (found.name, found.precision, found.device, found.compile) == ("vitdet_l", "bf16", "cpu", True)
    assert (found.window, found.weights, found.downsampling_factor) == (9, "random", 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clips", "walkS", "driveN", "model.device=cpu"],
        ["--clip", "walkS", "driveN", "model.device=cpu", "--threads", "2"],
        ["--threads", "2", "model.device=cpu", "--clips", "walkS", "driveN"],
        ["--clips", "walkS", "driveN", "--threads", "2", "model.device=cpu"],
        ["--clips", "walkS", "driveN", "--", "model.device=cpu"],
    ],
)
def test_options_of_the_model_end_the_values_of_another_option(arguments: list[str]) -> None:
    parser = CommandLine("job", "A job.", {})
    add_clip_options(parser, seconds=1.0)
    parser.add_argument("--threads", type=int)
    add_model_options(parser)
    options = parser.parse_args(arguments)
    assert (options.clips, options.model_options) == (["walkS", "driveN"], ["model.device=cpu"])


def test_a_list_of_numbers_ends_with_an_option_of_the_model() -> None:
    options = filtering.command_line().parse_args(["--thresholds", "0.1", "0.2", "model.device=cpu"])
    assert (options.thresholds, options.model_options) == ([0.1, 0.2], ["model.device=cpu"])


def test_an_option_comes_before_the_flag_that_means_the_same() -> None:
    assert parsed("model.precision=fp16", precision="bf16").precision == "fp16"
    assert parsed(precision=None).precision == "fp32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["policy=vitmalis"], "'policy=vitmalis': give options of the model"),
        (["model.precision=int3"], "model.precision=int3: choose one of fp32"),
        (["--model", "vitdet_x"], "'vitdet_x' is unknown"),
        (["model.window=0"], "model.window=0"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parsed(*arguments)


def test_facts_say_where_a_model_ran() -> None:
    facts = model_facts(parsed("model.device=cpu", "model.precision=bf16"))
    assert facts == {"device": "cpu", "card": processor(), "precision": "bf16", "engine": "eager"}
    with pytest.raises(UserError, match=r"model\.device=cuda:99 is not available here"):
        model_facts(parsed("model.device=cuda:99"))
