"""Command line of the server: `python -m vitmalis.server --help`."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

from vitmalis.command_line import CommandLine, count
from vitmalis.errors import UserError
from vitmalis.process import exit_on_stdin_eof, log_to, raise_descriptor_limit
from vitmalis.server.listening import open_listener
from vitmalis.server.warm_up import WarmUp
from vitmalis.types import DOWNSAMPLING_FACTORS


def _positive_decimal(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError:
        options = None
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(f'{text} is no JSON object, such as {{"threshold": 3}}')
    return options


def _warm_up(text: str) -> WarmUp:
    if text == "off":
        return WarmUp(at_hello=False)
    if text == "clients":
        return WarmUp()
    sizes = [re.fullmatch(r"(\d{2,4})x(\d{2,4})", size) for size in text.split(",")]
    found = [(int(size[1]), int(size[2])) for size in sizes if size]
    if len(found) < len(sizes) or not all(16 <= side <= 8192 for size in found for side in size):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no frame size: give clients, off, or sizes of 16 to 8192 px, such as 1920x1080 or "
            "1920x1080,960x540"
        )
    return WarmUp(tuple(dict.fromkeys(found)))


def build_parser() -> CommandLine:
    """Build the parser of the server's command line."""
    parser = CommandLine(
        "python -m vitmalis.server",
        "Serve object detection to ViTMAlis clients.",
        {
            "": "the embedded model, for clients on this machine",
            "--address tcp://0.0.0.0:5555 --keys server": "for clients on other machines that have keys",
            "--model vitdet_b --device cuda:0 --max-batch 4": "a larger model on a GPU, frames of clients in batches",
        },
        "Prints one JSON line with its address once it is ready; ends on SIGTERM, Ctrl-C or when its standard input "
        "closes. Logs go to standard error.",
    )
    add = parser.add_argument
    add("--address", default="tcp://127.0.0.1:0", help="where to listen; port 0 takes a free one")
    add("--keys", metavar="FOLDER", help="keys (python -m vitmalis.keys) that clients must have (default: none)")
    add("--insecure", action="store_true", help="serve anyone without keys, also from other machines")
    add("--log", metavar="FILE", help="log file, a new one at 10 MB (default: standard error)")
    _add_model_options(parser)
    _add_limits(parser)
    add("--restart", action=argparse.BooleanOptionalAction, default=True, help="start the server again if it fails, "
        "at the same address, after a growing delay (the default)")  # fmt: skip
    add("--listener", type=int, help=argparse.SUPPRESS)  # descriptor of the supervisor's socket
    return parser


def _add_model_options(parser: CommandLine) -> None:
    add = parser.add_argument
    add("--model", default="vitdet_tiny", help="detector preset, name of a timm model, or any for a class")
    add("--source", default="builtin", choices=("builtin", "timm", "detectron2", "custom"), help="where the model "
        "comes from; custom: a class of another package (docs/extend.md)")  # fmt: skip
    add("--target", default="", metavar="CLASS", help="class of source custom, such as mylab.detectors.Mine")
    add("--options", type=_options, default={}, metavar="JSON", help="its options (default: {})")
    add("--config", metavar="FILE", help="LazyConfig file of a detectron2 model (default: none)")
    add("--weights", metavar="PATH", help="checkpoint, or random (default: the model's own)")
    add("--device", default="auto", help="torch device, such as cpu or cuda:0; auto: cuda where there is one")
    add("--precision", default="fp32", choices=("fp32", "tf32", "bf16", "fp16", "int8"), help="arithmetic of the model")
    add("--engine", default="auto", choices=("auto", "eager", "fused"), help="auto: fused where a GPU can, else eager")
    add("--task", default="boxes", choices=("boxes", "instances"), help="instances: masks of objects besides boxes")
    add("--compile", action="store_true", help="torch.compile the model before serving; recompilations are logged")
    add("--decode", default="cpu", choices=("cpu", "gpu"), help="where JPEGs are decoded; gpu: where torchvision can")
    add("--window", type=count, help="side of an attention window in tokens (default: the model's)")
    add("--downsampling-factor", type=int, choices=DOWNSAMPLING_FACTORS, default=2, help="how much smaller "
        "low-resolution regions are, along each axis")  # fmt: skip
    add("--threads", type=count, default=1, help="torch threads")
    add("--warm-up", type=_warm_up, default=WarmUp(), metavar="SIZES", help="what the fused engine prepares for, so "
        "that no frame waits for it. clients: the frames of each client, before it is welcomed (the default); sizes, "
        "such as 1920x1080,960x540: also these, before the server is ready; off: nothing")  # fmt: skip
    add("--warm-up-s", type=_positive_decimal, default=WarmUp().limit_s, metavar="S", help="most seconds for the "
        "preparation for a frame size (default: %(default)g); clients wait 60 for their welcome")  # fmt: skip


def _add_limits(parser: CommandLine) -> None:
    add = parser.add_argument
    add("--max-message-mb", type=count, default=16, help="largest accepted compressed frame, in 2**20 bytes")
    add("--max-megapixels", type=_positive_decimal, metavar="NUMBER", help="largest accepted frame, in 10**6 pixels "
        "(default: the model's)")  # fmt: skip
    add("--max-queue", type=count, default=32, help="offloads that may wait; the next one is answered 'busy'")
    add("--max-queue-per-client", type=count, default=2, help="offloads of one client that may wait")
    add("--max-batch", type=count, default=1, help="most frames of different clients in one batch")
    add("--max-growth-mb", type=count, help="growth of memory at which connections are closed, in 2**20 bytes "
        "(default: half of what machine and cgroup have left after the first inference)")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server, or its supervisor; return the exit status.

    It is 0 after an orderly end, 1 if the server failed and is not started again, 2 for a user's mistake.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = build_parser().parse_args(arguments)
    try:
        return _supervise(args, arguments) if args.restart else _serve(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _supervise(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    from vitmalis.server.admission import decoder_environment, max_pixels
    from vitmalis.server.supervisor import Supervisor

    os.environ.update(decoder_environment(max_pixels(args.model, args.max_megapixels)))  # of the server's process
    log_to(args.log, rotate=False)  # the server's process does
    with open_listener(args.address, secured=args.keys is not None or args.insecure) as listener:
        command = [sys.executable, "-m", "vitmalis.server", *arguments, "--no-restart"]
        supervisor = Supervisor([*command, f"--listener={listener.fileno()}"], listener)
        supervisor.stop_on_signals()
        exit_on_stdin_eof()
        return supervisor.run()


def _serve(args: argparse.Namespace) -> int:
    # Until the service runs there is nothing to save, and the interpreter may crash if it ends under torch's threads.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    exit_on_stdin_eof()
    raise_descriptor_limit()
    log_to(args.log)
    from vitmalis.server.serving import serve_model  # slow, so not before --help is printed

    return serve_model(args)


if __name__ == "__main__":
    sys.exit(main())
