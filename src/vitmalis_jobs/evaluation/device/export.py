"""Export a run to a folder that a device plays: `python -m evaluation.device.export FOLDER [option=value ...]`.

See docs/two_machines.md.

The device needs only `pip install 'vitmalis[client]'` and the folder; bring it back afterwards and judge it with
`python -m evaluation.device.score FOLDER`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitmalis_jobs.common.cli import USER_ERRORS, error_line
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.evaluation.device.bundle import write_bundle
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.describe import describe, stand_ins
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.resolve import resolve_run


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.device.export",
        description="Make the folder that a device plays against a real server over a real network.",
        epilog="The network is the real one (link=none); for an emulated one start python -m vitmalis.network.relay "
        "on the device and give its address to the client.",
    )
    parser.add_argument("folder", type=Path, help="where to make it")
    parser.add_argument("overrides", nargs="*", help="options of evaluate.py, such as video=walkS policy=vitmalis")
    options, terminal = parser.parse_args(arguments), Terminal()
    try:
        config = composed(["link=none", *options.overrides])
        run = prepare_run(resolve_run(config), terminal)
        session = write_bundle(run, options.folder)
    except USER_ERRORS as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: bundle '{options.folder}' cannot be written: {error}; give another folder", file=sys.stderr)
        return 2
    terminal.header("a run for a device", describe(run), stand_ins(run))
    terminal.note(
        f"on the edge:   python -m vitmalis.server --model {config.model.name} --keys server --address tcp://*:5555"
    )
    terminal.note(f"on the device: cd {options.folder.name} && python -m vitmalis.client --session session.json "
                  "--keys ../device --address tcp://EDGE:5555")  # fmt: skip
    terminal.note(
        f"then here:     python -m evaluation.device.score {options.folder} (the server must serve {session.model_id})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
