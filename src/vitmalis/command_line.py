"""Command lines of programs: help that begins with what a program does, one line for each mistake."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
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
        super().__init__(prog=prog, description=about, epilog=notes or None, formatter_class=_HelpFormatter)
        self.examples = {f"{prog} {arguments}".strip(): effect for arguments, effect in examples.items()}

    def format_help(self) -> str:
        """What `--help` prints: what the program does, usage, options, notes, examples."""
        usage, about, rest = super().format_help().split("\n\n", 2)
        return "\n\n".join((about, usage, rest.strip(), example_lines(self.examples)))

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the arguments, those of the process for None, and exit with status 2 after a mistake."""
        options, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return options

    def error(self, message: str) -> NoReturn:
        """Print a mistake as one line and exit with status 2."""
        if message.startswith(_REQUIRED):
            message = f"missing: {message.removeprefix(_REQUIRED)}"
        self.exit(2, f"error: {message.removeprefix('argument ')} (--help explains the options)\n")

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"'{argument}' is one argument too many"
        name = argument.partition("=")[0]
        return f"there is no option '{name}'{did_you_mean(name, self._option_string_actions, '; ')}"

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            reason = _EXPECTED.get(action.type, error.message)
            raise argparse.ArgumentError(None, f"{_name(action)} '{arg_string}': {reason}") from error

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, unknown_choice(f"{_name(action)} {value}", value, action.choices))


class _HelpFormatter(argparse.HelpFormatter):
    """Help of options with a metavar that names the kind of value, and with defaults."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if default is None or default is False or default == argparse.SUPPRESS or "default" in text:
            return text
        values = default if isinstance(default, list | tuple) else [default]
        shown = (" " if action.nargs else ",").join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in values
        )
        return f"{text} (default: {shown})".replace("%", "%%") if shown else text

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return _METAVARS.get(action.type, action.dest.upper())


def _name(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)


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
