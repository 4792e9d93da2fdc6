"""Command lines of programs: help that begins with what a program does, one line for each mistake."""

from __future__ import annotations

import argparse
import difflib
import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn


def count(text: str) -> int:
    """Parse a whole number of at least 1, as the `type` of an option.

    Raises:
        ValueError: it is less, or no whole number.
    """
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


_METAVARS: dict[object, str] = {int: "N", count: "N", float: "NUMBER", Path: "PATH"}
_EXPECTED: dict[object, str] = {
    int: "give a whole number",
    count: "give a whole number of at least 1",
    float: "give a number",
}
_REQUIRED = "the following arguments are required: "
_NAMED_TWICE = re.compile(r"argument (\S+): (?=\1 )")
_OVERRIDE = re.compile(r"[+~\w][\w.@/]*=")
"""Beginning of an argument KEY=VALUE."""


class CommandLine(argparse.ArgumentParser):
    """Parser of a program's options, which may stand before, between and after its arguments.

    `--help` prints what the program does, its options with their defaults, and commands to try. A mistake is one line
    on standard error that names the option, the value and what works, with exit status 2.
    """

    def __init__(self, prog: str, about: str, examples: Mapping[str, str], notes: str = "") -> None:
        """Make a parser without options.

        Args:
            prog: the command, such as `python -m vitmalis.server`.
            about: what it does, in one paragraph.
            examples: arguments of commands to try, each with what that command does.
            notes: what else a user should know, in one paragraph; printed after the options.
        """
        self._names: list[str] = []
        self._listing: list[str] = []  # names of options with any number of values
        self._takes_overrides = False
        formatter = functools.partial(argparse.HelpFormatter, max_help_position=32)
        super().__init__(prog=prog, description=about, epilog=notes or None, formatter_class=formatter)
        self.examples = {f"{prog} {arguments}".strip(): effect for arguments, effect in examples.items()}

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Add an option or an argument, with the parameters of `argparse`.

        Its help is plain text, to which the default is added, and its metavar names the kind of value.
        """
        action = super().add_argument(*names, **options)
        self._names += action.option_strings
        self._listing += action.option_strings if action.nargs in ("*", "+") else []
        self._takes_overrides |= not action.option_strings and str(action.metavar).endswith("=VALUE")
        if (text := options.get("help")) not in (None, argparse.SUPPRESS):
            action.help = f"{text}{_default(text, action)}".replace("%", "%%")
        if action.option_strings and action.metavar is None and action.choices is None:
            action.metavar = _METAVARS.get(action.type, action.dest.upper())
        if options.keys() & {"type", "choices"}:
            action.type = Value(_name(action), options.get("type", str), action.choices)
        return action

    def format_help(self) -> str:
        """What `--help` prints: what the program does, usage, options, notes, examples."""
        usage, about, rest = super().format_help().split("\n\n", 2)
        return "\n\n".join((about, usage, rest.strip(), example_lines(self.examples)))

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the arguments, those of the process for None, and exit with status 2 after a mistake."""
        given = self._overrides_first(sys.argv[1:] if args is None else args)
        options, unknown = self.parse_known_intermixed_args(given, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return options

    def error(self, message: str) -> NoReturn:
        """Print a mistake as one line and exit with status 2."""
        if message.startswith(_REQUIRED):
            message = f"missing: {message.removeprefix(_REQUIRED)}"
        message = _NAMED_TWICE.sub("", message, count=1).removeprefix("argument ")
        self.exit(2, f"error: {message} (--help explains the options)\n")

    def _overrides_first(self, arguments: Sequence[str]) -> list[str]:
        """Move to the front arguments KEY=VALUE that would be taken for one more value of the option before them."""
        first: list[str] = []
        others: list[str] = []
        listing = False
        for argument in arguments:
            if argument.startswith("--"):
                listing = self._takes_overrides and any(name.startswith(argument) for name in self._listing)
            (first if listing and _OVERRIDE.match(argument) else others).append(argument)
        return [*first, *others]

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"'{argument}' is one argument too many"
        name = argument.partition("=")[0]
        return f"there is no option '{name}'{did_you_mean(name, self._names, '; ')}"


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """The `type` of an option: parses a value, and says what is wrong with it, which option it is of and what works.

    Attributes:
        option: its name.
        kind: parses the value.
        choices: values that are allowed; None for all.
    """

    option: str
    kind: Callable[[str], Any]
    choices: Iterable[Any] | None = None

    def __call__(self, text: str) -> Any:
        """Parse a value; raises `ArgumentTypeError` for one that cannot be used."""
        try:
            value = self.kind(text)
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            reason = _EXPECTED.get(self.kind, str(error))
            raise argparse.ArgumentTypeError(f"{self.option} '{text}': {reason}") from error
        if self.choices is not None and value not in self.choices:
            raise argparse.ArgumentTypeError(unknown_choice(f"{self.option} {value}", value, self.choices))
        return value


def _name(action: argparse.Action) -> str:
    """The name of an option or argument as `argparse` writes it before a mistake."""
    return "/".join(action.option_strings) or str(action.metavar or action.dest)


def _default(text: str, action: argparse.Action) -> str:
    """The default of an option, for the end of its help; nothing where the help says it, or there is none."""
    default = action.default
    if default is None or default is False or default == argparse.SUPPRESS or "default" in text:
        return ""
    values = default if isinstance(default, list | tuple) else [default]
    shown = (" " if action.nargs else ",").join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in values
    )
    return f" (default: {shown})" if shown else ""


def did_you_mean(name: str, known: Iterable[str], before: str = "", after: str = "") -> str:
    """The question whether the most similar of the known names was meant, or nothing where none is similar."""
    similar = difflib.get_close_matches(name, list(known), 1)
    return f"{before}did you mean {similar[0]}?{after}" if similar else ""


def unknown_choice(given: str, value: object, choices: Iterable[object]) -> str:
    """The message for a value that is none of the choices.

    Args:
        given: the option with its value, as the user wrote it.
        value: the value.
        choices: those that the option has.
    """
    names = [str(choice) for choice in choices]
    return f"{given} is unknown: {did_you_mean(str(value), names, after=' Else ')}choose one of {', '.join(names)}"


def example_lines(examples: Mapping[str, str]) -> str:
    """Commands with what they do, for the end of a help text."""
    width = max(map(len, examples), default=0)
    lines = [f"  {command:{width}}   {effect}".rstrip() for command, effect in examples.items()]
    return "\n".join(["Examples:", *lines]) + "\n"
