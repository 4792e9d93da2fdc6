"""Command line of the server: `python -m vitmalis.server --help`."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from vitmalis.errors import UserError
from vitmalis.network.wire.security import read_server_keys
from vitmalis.process import announce_ready, exit_on_stdin_eof, log_to, raise_descriptor_limit
from vitmalis.regions.grid import DOWNSAMPLING_FACTORS
from vitmalis.server.admission import default_max_pixels
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.worker import Limits

_log = logging.getLogger("vitmalis.server")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _positive_decimal(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the server's command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vitmalis.server",
        description="Serve object detection to ViTMAlis clients. Prints one JSON line with its address once it is "
        "ready; ends on SIGTERM, Ctrl-C or when its standard input closes. Logs go to standard error.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--address", default="tcp://127.0.0.1:0", help="where to listen; port 0 takes a free one")
    add("--keys", default=None, metavar="FOLDER", help="serve only clients with keys (python -m vitmalis.keys)")
    add("--insecure", action="store_true", help="serve anyone without keys, also from other machines")
    add("--log", default=None, metavar="FILE", help="log to this file instead of standard error; a new one at 10 MB")
    add("--model", default="vitdet_tiny", help="detector preset, or name of a timm model")
    add("--source", default="builtin", choices=("builtin", "timm", "detectron2"), help="where the model comes from")
    add("--config", default=None, metavar="FILE", help="LazyConfig file of a detectron2 model")
    add(
        "--weights",
        default=None,
        metavar="PATH",
        help="checkpoint, or random; default: the model's own",
    )
    add("--device", default="auto", help="torch device, such as cpu or cuda:0; auto: cuda where there is one")
    add("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="arithmetic of the model")
    add("--compile", action="store_true", help="torch.compile the model before serving; recompilations are logged")
    add("--window", type=_positive, default=None, help="side of an attention window in tokens; default: the model's")
    add("--downsampling-factor", type=int, choices=DOWNSAMPLING_FACTORS, default=2, help="of low-resolution regions")
    add("--threads", type=_positive, default=1, help="torch threads")
    add("--max-message-mb", type=_positive, default=16, help="largest accepted compressed frame, in 2**20 bytes")
    add(
        "--max-megapixels",
        type=_positive_decimal,
        default=None,
        help="of a frame; default: the model's",
    )
    add("--max-queue", type=_positive, default=32, help="offloads that may wait; the next one is answered 'busy'")
    add("--max-queue-per-client", type=_positive, default=2, help="offloads of one client that may wait")
    add("--max-batch", type=_positive, default=1, help="most frames of different clients in one batch")
    add("--max-growth-mb", type=_positive, default=None, help="growth of memory at which connections are closed, in "
        "2**20 bytes; default: half of what machine and cgroup have left after the first inference")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server; return the exit status: 0 after an orderly end, 1 if inference broke, 2 for a user's mistake."""
    args = build_parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    exit_on_stdin_eof()
    raise_descriptor_limit()
    try:
        log_to(args.log)
        return _serve(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(args: argparse.Namespace) -> int:
    # Bound first, so that a busy port is reported before the model is loaded.
    keys = None if args.keys is None else read_server_keys(Path(args.keys))
    with ServerEndpoint(args.address, args.max_message_mb * 2**20, keys, insecure=args.insecure) as endpoint:
        import torch  # slow, so not before --help is printed or a busy port reported

        from vitmalis.detector.detector import load_detector

        torch.set_num_threads(args.threads)
        torch.set_num_interop_threads(1)
        detector = load_detector(
            args.model,
            source=args.source,
            config=args.config,
            weights=args.weights,
            device=args.device,
            precision=args.precision,
            window=args.window,
            downsampling_factor=args.downsampling_factor,
            compiled=args.compile,
        )
        limits = Limits(
            queue_capacity=args.max_queue,
            queue_per_client=args.max_queue_per_client,
            max_pixels=max_pixels(args.model, args.max_megapixels),
            max_batch=args.max_batch,
            max_growth_bytes=None if args.max_growth_mb is None else args.max_growth_mb * 2**20,
        )
        service = Service(endpoint, detector, limits)
        return serve(service, endpoint, model=detector.name, model_id=detector.model_id, device=str(detector.device))


def max_pixels(model: str, megapixels: float | None) -> int:
    """Pixels of the largest frame that is served: as the command line says, else the largest that the model is for."""
    return default_max_pixels(model) if megapixels is None else round(megapixels * 1e6)


def serve(service: Service, endpoint: ServerEndpoint, **facts: str) -> int:
    """Warm up, print the address and `facts` as JSON on standard output, and serve until a signal.

    Returns:
        Exit status: 0, or 1 if the model no longer works.
    """
    service.warm_up()
    signal.set_wakeup_fd(endpoint.waker.writer_fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    _log.info("serving %s at %s", facts.get("model", ""), endpoint.address)
    announce_ready(endpoint.address, **facts)
    status = 0 if service.run() else 1
    signal.set_wakeup_fd(-1)
    service.counts.update(endpoint.closed)
    if endpoint.refused_handshakes:
        service.counts["unknown"] = endpoint.refused_handshakes
    _log.info("ended: %s", ", ".join(f"{count} {kind}" for kind, count in service.counts.items()) or "nothing served")
    if not service.close():
        # Shutting the interpreter down under a thread inside torch may crash it, so skip that; nothing is left to save.
        logging.shutdown()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
