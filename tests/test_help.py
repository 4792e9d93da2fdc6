"""Every command: help with units, defaults and commands to try; a mistake is one line with the way out."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vitmalis.command_line import CommandLine, Value
from vitmalis_jobs import cli
from vitmalis_jobs.common.config import conf_dir

PROGRAMS = {
    "python -m vitmalis.client": "vitmalis.client.__main__",
    "python -m vitmalis.server": "vitmalis.server.__main__",
    "python -m vitmalis.server.health": "vitmalis.server.health",
    "python -m vitmalis.keys": "vitmalis.keys",
    "python -m vitmalis.network.fetch": "vitmalis.network.fetch",
    "python -m vitmalis.network.relay": "vitmalis.network.relay",
    "python -m vitmalis.video.fetch": "vitmalis.video.fetch",
}
"""Commands of the library, which is without jobs, and their modules."""
ALIASED = {"vitmalis.network.emulation.__main__", "vitmalis_jobs.evaluation.study.cli"}
"""Modules that commands run by another name."""
HYDRA = {
    "profile latency": "profile_latency",
    "profile samples": "profile_samples",
    "train detector": "train_detector",
    "train estimators": "train_estimators",
    "train masks": "train_masks",
    "train evaluate-detector": "train_detector",
    "train traces": "fit_traces",
    "validate link": "profile_link",
}
"""Jobs whose options are a configuration in `conf/`."""
JOBS = {f"vitmalis {name}": f"vitmalis_jobs.{module}" for name, (module, _) in cli.JOBS.items()}
PARSED = (JOBS.keys() | PROGRAMS.keys()) - {f"vitmalis {name}" for name in ("evaluate", *HYDRA)}
"""Commands whose options a `CommandLine` parses."""
UNITS = re.compile(
    r"\b(seconds?|minutes|days|side|ms|Mbit/s|pixels|px|bytes|shares?|F1|relative|threads|tokens|seed|number|numbers|port|"
    r"frames?|offloads?|calls|runs|messages|connections|sessions|scenes|pairs|restoration points|smaller)\b", re.I
)  # fmt: skip
"""What a number of an option counts or measures."""


def entry(command: str) -> Callable[[], int]:
    """The `main` of a command."""
    return importlib.import_module({**JOBS, **PROGRAMS}[command]).main


def run(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str) -> int:
    """Run a command in this process; returns its exit status."""
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    try:
        return entry(command)()
    except SystemExit as end:
        return int(end.code or 0)


def parser_of(monkeypatch: pytest.MonkeyPatch, command: str) -> CommandLine:
    """The parser that a command makes."""
    made: list[CommandLine] = []

    def keep(parser: CommandLine, args: object = None, namespace: object = None) -> argparse.Namespace:
        made.append(parser)
        raise SystemExit(0)

    monkeypatch.setattr(CommandLine, "parse_args", keep)
    run(monkeypatch, command)
    return made[0]


def test_every_module_with_a_command_line_is_tried() -> None:
    sources = Path(cli.__file__).parents[1]
    found = {
        ".".join(path.relative_to(sources).with_suffix("").parts)
        for path in sources.rglob("*.py")
        if re.search(r"= (job_parser|CommandLine)\(\n|^@hydra_job\(", path.read_text(), re.M)
    }
    assert found <= {*JOBS.values(), *PROGRAMS.values(), *ALIASED}


@pytest.mark.parametrize("command", [*JOBS, *PROGRAMS])
def test_help_begins_with_what_the_command_does_and_ends_with_commands_to_try(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert run(monkeypatch, command, "--help") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    about, usage = printed.out.split("\n\n")[:2]
    assert re.match(r"[A-Z]\w+ .*[.:]", about, re.S)
    assert len(about.split()) >= 4
    assert usage.startswith("usage: ")
    assert not re.search(r"Choose .*:\n\nOptions", printed.out), "no choices"
    examples = printed.out.partition("\nExamples:\n")[2]
    assert re.search(r"^  (python|vitmalis) .*\S {3,}\S", examples, re.M), printed.out


@pytest.mark.parametrize("command", sorted(PARSED))
def test_every_option_has_a_description_with_unit_and_default(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(monkeypatch, command)
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        text = str(action.help)
        assert len(text.split()) >= 2, text
        if action.option_strings and not action.required and action.nargs != 0:
            assert "default" in text or action.default in ("", []), f"{action.option_strings}: {text}"
        if isinstance(action.type, Value) and action.type.kind in (int, float):
            assert UNITS.search(text), f"{action.option_strings}: {text}"


@pytest.mark.parametrize("name", sorted(set(HYDRA.values())))
def test_every_option_of_a_configuration_has_a_comment(name: str) -> None:
    """On its own line, or on the lines above it up to an empty one."""
    commented = False
    for line in (conf_dir() / f"{name}.yaml").read_text().split("\ndefaults:")[1].split("\n\n", 1)[1].splitlines():
        if line.startswith("hydra:"):
            break
        commented = "#" in line or (commented and bool(line))
        is_option = re.match(r"\s*[a-z_0-9]+: \S", line)
        assert commented or not is_option, line


@pytest.mark.parametrize("command", sorted(PARSED))
def test_a_mistyped_option_is_one_line_with_the_way_out(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parser_of(monkeypatch, command)
    monkeypatch.undo()
    needed = []
    for action in parser._actions:
        if action.required:
            needed += [*action.option_strings[-1:], str((action.choices or ["1"])[0])]
    assert run(monkeypatch, command, *needed, "--hepl") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == ("error: there is no option '--hepl'; did you mean --help? (--help explains the options)\n")


@pytest.mark.parametrize("name", ["evaluate", *HYDRA])
def test_a_mistyped_option_of_a_configuration_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, f"vitmalis {name}", "modle.window=5") == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("error: there is no option 'modle.window': ")
    assert "--cfg job shows all there are" in printed.err


def test_a_mistyped_job_is_one_line_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed, meant in (("evalute", "evaluate"), ("profile latncy", "profile latency"), ("train", "train ")):
        monkeypatch.setattr(sys, "argv", ["vitmalis", *typed.split()])
        assert cli.main() == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert re.fullmatch(rf"error: there is no job '{typed}': .*{meant}.*vitmalis --help lists them\n", printed.err)
    monkeypatch.setattr(sys, "argv", ["vitmalis", "pages", "runs/evaluations/2026-03-01/12-00-00"])
    assert cli.main() == 2
    said = "error: there is no job 'pages': did you mean page? vitmalis --help lists them\n"
    assert capsys.readouterr().err == said, "not of job and folder together"


def example_line() -> CommandLine:
    """A small parser with an option of each kind."""
    parser = CommandLine("tool", "Do something useful with a file.", {"a.txt --count 3": "three times"}, "A note.")
    parser.add_argument("file", metavar="FILE", help="file to read")
    parser.add_argument("rest", nargs="*", default=[], metavar="KEY=VALUE", help="further options")
    parser.add_argument("--count", type=int, default=2, help="number of times, at 50 % each")
    parser.add_argument("--speed", type=float, default=4.0, help="pixels per second")
    parser.add_argument("--mode", choices=("fast", "slow"), default="fast", help="way to read")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 1.0], help="shares to try")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    return parser


def test_the_whole_help_of_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert example_line().format_help() == HELP


HELP = """\
Do something useful with a file.

usage: tool [-h] [--count N] [--speed NUMBER] [--mode {fast,slow}] [--shares NUMBER [NUMBER ...]]
            [--quiet]
            FILE [KEY=VALUE ...]

positional arguments:
  FILE                          file to read
  KEY=VALUE                     further options

options:
  -h, --help                    show this help message and exit
  --count N                     number of times, at 50 % each (default: 2)
  --speed NUMBER                pixels per second (default: 4)
  --mode {fast,slow}            way to read (default: fast)
  --shares NUMBER [NUMBER ...]  shares to try (default: 0.5 1)
  --quiet                       print nothing

A note.

Examples:
  tool a.txt --count 3   three times
"""


def test_defaults_of_arguments_and_signs_of_per_cent_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandLine("tool", "Do something.", {"": "at once"})
    parser.add_argument("address", nargs="?", metavar="ADDRESS", default="tcp://here", help="address of the server")
    parser.add_argument("--share", help="80 % (default: all)")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    printed = capsys.readouterr().out
    assert "  ADDRESS        address of the server (default: tcp://here)\n" in printed
    assert "  --share SHARE  80 % (default: all)\n" in printed


def test_options_stand_anywhere() -> None:
    options = example_line().parse_args(["a.txt", "x=1", "--count", "3", "y=2", "--quiet"])
    assert (options.file, options.rest, options.count, options.quiet) == ("a.txt", ["x=1", "y=2"], 3, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["f", "--count", "many"], "--count 'many': give a whole number"),
        (["f", "--speed", "fast"], "--speed 'fast': give a number"),
        (["f", "--mode", "slwo"], "--mode slwo is unknown: did you mean slow? Else choose one of fast, slow"),
        (["f", "--mode", "x"], "--mode x is unknown: choose one of fast, slow"),
        (["f", "--cuont", "2"], "there is no option '--cuont'; did you mean --count?"),
        (["f", "--zzz"], "there is no option '--zzz'"),
        (["f", "--count"], "--count: expected one argument"),
        ([], "missing: FILE"),
    ],
)
def test_a_mistake_names_the_option_the_value_and_the_way_out(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        example_line().parse_args(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {error} (--help explains the options)\n"
