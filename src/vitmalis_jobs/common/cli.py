"""The frame of every job's command line: one line for a user's mistake, exit statuses that scripts can rely on.

Exit statuses: 0 done, 1 a bar of the job was missed, 2 a user's mistake, 130 interrupted. Any other exception is a bug
and keeps its traceback.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.paths import group_umask, remove_empty
from vitmalis_jobs.common import mistakes
from vitmalis_jobs.common.config import choices_named, conf_dir
from vitmalis_jobs.common.hydra_help import hydra_help
from vitmalis_jobs.common.output_streams import lasting_streams
from vitmalis_jobs.common.signals import install_sigterm_handler
from vitmalis_jobs.common.storage_errors import storage_errors

_WRONG_KIND = (FileExistsError, IsADirectoryError, NotADirectoryError)
"""A file where a folder is needed, or a folder where a file is."""
USER_ERRORS = (HydraException, OmegaConfBaseException, UserError, PermissionError, *_WRONG_KIND)
"""Exceptions that a user can mend."""


@contextmanager
def job_process() -> Iterator[None]:
    """What the process of every job has: one way to be interrupted, lasting streams, files to share in `runs/`."""
    install_sigterm_handler()
    with lasting_streams(), group_umask(Path("runs")):
        yield


def run_job(job: Callable[[], object], config_name: str | None = None) -> int:
    """Run a job and return the exit status of its process.

    Args:
        job: does the work; returns False where a bar was missed, anything else where all is well.
        config_name: the configuration in `conf/` that the command line changes; None for jobs without one.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets exceptions through to here
    with job_process():
        try:
            with choices_named(sys.argv[1:]), storage_errors():
                return 1 if job() is False else 0
        except USER_ERRORS as error:
            print_error(error, config_name)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


def job_parser(job: str, about: str, examples: Mapping[str, str], notes: str = "") -> CommandLine:
    """The parser of a job's options, named as it was started; arguments as of `CommandLine`."""
    return CommandLine(program(job), about, examples, notes)


def option_job(parser: Callable[[], CommandLine], job: Callable[[argparse.Namespace], object]) -> Callable[..., int]:
    """Make the `main` of a job whose options a parser reads; jobs with a configuration in `conf/` have `hydra_job`.

    Args:
        parser: makes the parser; called when the job starts, as defaults may depend on the configuration.
        job: does the work; returns False where a bar was missed, anything else where all is well.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        """Run the job with these arguments, by default those of the process; returns the exit status of `run_job`."""
        return run_job(lambda: job(parser().parse_args(arguments)))

    return main


def hydra_job(
    config_name: str, examples: Mapping[str, str]
) -> Callable[[Callable[[DictConfig], object]], Callable[[], int]]:
    """Decorate a job that reads `conf/<config_name>.yaml`: its `main()` parses the command line and returns the status.

    A user's mistake is reported inside the task, as Hydra prints lines of its own about every exception that leaves it.
    With `--multirun` the runs after a mistake are still made, and the highest status counts. `--help` prints the
    docstring of the job's module, the options with the comments of the configuration file, and the examples.

    Args:
        config_name: name of a file in `conf/`, such as `train_detector`.
        examples: options of commands to try, each with what that command does.
    """

    def decorate(job: Callable[[DictConfig], object]) -> Callable[[], int]:
        @functools.wraps(job)
        def main() -> int:
            if {"-h", "--help"} & set(sys.argv[1:]):
                about = sys.modules[job.__module__].__doc__ or ""
                return run_job(lambda: print(hydra_help(_command_of(job), about, config_name, examples), end=""))
            multirun_first()
            statuses: list[int] = []

            @functools.wraps(job)
            def task(config: DictConfig) -> None:
                try:
                    refuse_chdir()
                    with storage_errors():
                        statuses.append(1 if job(config) is False else 0)
                except USER_ERRORS as error:
                    print_error(error)
                    statuses.append(2)
                    runtime = HydraConfig.get().runtime
                    remove_empty(Path(runtime.output_dir), Path(runtime.cwd))  # Hydra made it before the job began

            command = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(task)
            status = run_job(command, config_name)
            return max([status, *statuses])

        return main

    return decorate


def multirun_first() -> None:
    """Move `-m` to the front of the command line: Hydra's parser refuses it between two options."""
    flags = [argument for argument in sys.argv[1:] if argument in ("-m", "--multirun")]
    sys.argv[1:] = flags + [argument for argument in sys.argv[1:] if argument not in flags]


def program(job: str) -> str:
    """The command that started a job, for its usage line: `vitmalis report`, or `python -m evaluation.report`."""
    return sys.argv[0] if sys.argv[0].startswith("vitmalis ") else f"python -m {job}"


def _command_of(job: Callable[..., object]) -> str:
    """The command that starts a job of `hydra_job`: the package's short name of its module, or a user's script."""
    spec = sys.modules[job.__module__].__spec__
    if spec is None:
        return f"python {Path(sys.argv[0]).name}"
    return program(spec.name.removeprefix("vitmalis_jobs.").removesuffix(".__main__").removesuffix(".job"))


def print_error(error: BaseException, config_name: str | None = None) -> None:
    """Print a user's mistake as one line on standard error; see `error_line`."""
    print(f"error: {error_line(error, config_name)}", file=sys.stderr)


def refuse_chdir() -> None:
    """Raise `UserError` where Hydra has changed the working directory, in which relative paths mean other files."""
    if HydraConfig.get().job.chdir:
        raise UserError("hydra.job.chdir=true: relative paths would mean other files; leave it out")


def error_line(error: BaseException, config_name: str | None = None) -> str:
    """Say in one line what is wrong and how to put it right.

    Args:
        config_name: the configuration in `conf/` whose options may be meant; None where they are not known.
    """
    if isinstance(error, PermissionError) and error.filename is not None:
        return _permission_line(Path(os.fsdecode(error.filename)))
    if isinstance(error, _WRONG_KIND) and error.filename is not None:
        path = error.filename2 or error.filename  # of a file that takes another's place, that place
        return f"'{os.fsdecode(path)}' cannot be used: {error.strerror}: give another path"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return mistakes.unknown_group_choice(error.missing_cfg_file, error.options)
    unreadable = mistakes.unreadable_value(error)
    if unreadable:
        return unreadable
    text = re.sub(r"\n\s*(full_key|object_type|See https|Config search path).*", "", str(error), flags=re.DOTALL)
    found = re.match(r"Could not override '([^']+)'", text)
    if found:
        return mistakes.unknown_option(found[1], config_name, sys.argv[1:])
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def _permission_line(path: Path) -> str:
    """Say whose file may not be used, and what its owner can do so that a group can share it."""
    existing = next((p for p in (path, *path.absolute().parents) if _exists(p)), path)
    try:
        owner = existing.owner()
    except KeyError:  # a user without a name on this machine
        owner = f"user {existing.stat().st_uid}"
    return (
        f"'{path}' may not be opened or written: '{existing}' belongs to {owner}. its owner can share the folder with "
        "the group (chmod -R g+rwX FOLDER, umask 002 for what comes), or use another working directory"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
