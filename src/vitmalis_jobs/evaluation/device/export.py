"""Export a run to a folder that a device plays: `python -m evaluation.device.export FOLDER [option=value ...]`.

The device needs only `pip install 'vitmalis[client]'` and the folder. Bring the folder back afterwards and score it
with `python -m evaluation.device.score FOLDER` (docs/two_machines.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis_jobs.common.arguments import add_overrides
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.evaluation.device.bundle import write_bundle
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.describe import describe, stand_ins
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.resolve import resolve_run


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "evaluation.device.export",
        "Export a run to a folder that a device plays against a real server over a real network.",
        {
            "device_run video=walkS policy=vitmalis server.address=tcp://edge:5555": "to copy to the device",
        },
        "The network is the real one (link=none); for an emulated one start python -m vitmalis.network.relay on the "
        "device and give its address to the client (docs/two_machines.md).",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write")
    add_overrides(parser)
    return parser


def export(folder: Path, overrides: Sequence[str], terminal: Terminal) -> None:
    """Write the bundle of a run with these options, and print the commands that follow.

    Raises:
        HydraException, UserError: an option is wrong, or the folder cannot be written to.
    """
    run = prepare_run(resolve_run(composed(["link=none", *overrides])), terminal)
    try:
        session = write_bundle(run, folder)
    except OSError as error:
        raise UserError(f"bundle '{folder}' cannot be written: {error}; give another folder") from error
    terminal.header("a run for a device", describe(run), stand_ins(run))
    model = run.config.model.name
    terminal.note(f"on the edge:   python -m vitmalis.server --model {model} --keys server --address tcp://*:5555")
    terminal.note(
        f"on the device: cd {folder.name} && python -m vitmalis.client --session session.json --keys ../device "
        "--address tcp://EDGE:5555"
    )
    terminal.note(
        f"then here:     python -m evaluation.device.score {folder} (the server must serve {session.model_id})"
    )


main = option_job(command_line, lambda options: export(options.folder, options.overrides, Terminal()))


if __name__ == "__main__":
    sys.exit(main())
