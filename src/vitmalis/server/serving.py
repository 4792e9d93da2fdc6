"""The server's process: endpoint, model and service, from start to end."""

from __future__ import annotations

import logging
import signal
import socket
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitmalis.errors import UserError
from vitmalis.network.wire.security import read_server_keys
from vitmalis.process import announce_ready, exit_within
from vitmalis.server.admission import max_pixels
from vitmalis.server.decoding import Decoder, decode_offload
from vitmalis.server.endpoint import ServerEndpoint
from vitmalis.server.service import Service
from vitmalis.server.warm_up import WarmUp
from vitmalis.server.worker import Limits

if TYPE_CHECKING:
    import torch

_END_S = 4.0
"""An end that takes longer from the signal on is cut short; parents wait for 5 s."""
_log = logging.getLogger("vitmalis.server")


def serve_model(args: Namespace) -> int:
    """Load the model that the command line names and serve it; return the exit status.

    Raises:
        UserError: the address, the keys or the model cannot be used.
    """
    # Bound first, so that a busy port is reported before the model is loaded.
    keys = None if args.keys is None else read_server_keys(Path(args.keys))
    listener = args.address if args.listener is None else socket.socket(fileno=args.listener)
    with ServerEndpoint(listener, args.max_message_mb * 2**20, keys, insecure=args.insecure) as endpoint:
        import torch  # slow, so not before --help is printed or a busy port reported

        from vitmalis.detector.loading import load_any_detector

        torch.set_num_threads(args.threads)
        torch.set_num_interop_threads(1)
        detector = load_any_detector(
            args.model,
            source=args.source,
            target=args.target,
            options=args.options,
            config=args.config,
            weights=args.weights,
            device=args.device,
            precision=args.precision,
            window=args.window,
            downsampling_factor=args.downsampling_factor,
            task=args.task,
            compiled=args.compile,
            engine=args.engine,
        )
        limits = Limits(
            queue_capacity=args.max_queue,
            queue_per_client=args.max_queue_per_client,
            max_pixels=max_pixels(args.model, args.max_megapixels),
            max_batch=args.max_batch,
            max_growth_bytes=None if args.max_growth_mb is None else args.max_growth_mb * 2**20,
        )
        decoder = _decoder(args.decode, detector.device)
        service = Service(endpoint, detector, limits, decoder, warm_up(args, limits.max_pixels))
        facts = {"model_id": detector.model_id, "device": str(detector.device), "engine": detector.engine}
        return serve(service, endpoint, model=detector.name, **facts)


def warm_up(args: Namespace, max_pixels: int) -> WarmUp:
    """The warm-up that the command line asks for.

    Raises:
        UserError: frames of one of its sizes are not served.
    """
    for width, height in args.warm_up.sizes:
        if width * height > max_pixels:
            raise UserError(
                f"--warm-up {width}x{height}: at most {max_pixels} pixels are served; warm up for smaller frames, or "
                "give a larger --max-megapixels"
            )
    return replace(args.warm_up, limit_s=args.warm_up_s)


def _decoder(place: str, device: torch.device) -> Decoder:
    if place == "cpu":
        return decode_offload
    from vitmalis.server.device_decoding import device_decoder

    return device_decoder(device)


def serve(service: Service, endpoint: ServerEndpoint, **facts: str) -> int:
    """Warm up, print the address and `facts` as JSON on standard output, and serve until a signal.

    Returns:
        Exit status: 0, or 1 if the model no longer works.
    """
    service.warm_up()
    signal.set_wakeup_fd(endpoint.waker.writer_fileno())

    def stop(*_: object) -> None:
        service.stop()
        exit_within(_END_S, 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    _log.info("serving %s at %s", facts.get("model", ""), endpoint.address)
    announce_ready(endpoint.address, **facts)
    status = 0 if service.run() else 1
    signal.set_wakeup_fd(-1)
    service.counts.update(endpoint.closed)
    if endpoint.refused_handshakes:
        service.counts["unknown"] = endpoint.refused_handshakes
    _log.info("ended: %s", ", ".join(f"{count} {kind}" for kind, count in service.counts.items()) or "nothing served")
    # Under a thread inside torch the interpreter may crash, and libzmq may wait for its peers. Nothing is left to save.
    exit_within(_END_S, status)
    service.close()
    return status
