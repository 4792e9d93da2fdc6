"""The readers that are fuzzed: what each reads, valid inputs to begin with, and how it may refuse others."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vitmalis.codec.jpeg import decode_jpeg, encode_jpeg
from vitmalis.codec.jpeg_structure import jpeg_size
from vitmalis.detector.array_pickle import read_array_pickle
from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE
from vitmalis.network.traces import constant_trace, load_trace, save_mahimahi, save_trace
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.caching import Caching
from vitmalis.network.wire.feedback import AskedRegions, UncertainScores
from vitmalis.network.wire.payloads import pack_detections, unpack_detections
from vitmalis.offload import TokenCaching
from vitmalis.records import FrameRecord, OffloadRecord, RecordsInfo, read_frames, read_offloads, write_run
from vitmalis.regions import ModelGeometry
from vitmalis.server.admission import refusal_reason
from vitmalis.server.cost import estimated_cost
from vitmalis.types import Configuration, Detections

MAX_PIXELS = 256 * 256
GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)


@dataclass(frozen=True, slots=True)
class Target:
    """A reader of files or messages that is fed with damaged bytes.

    Attributes:
        read: reads one input; a file of any name in the folder may be used for it.
        seeds: makes valid inputs.
        refusals: exceptions by which the reader refuses an input; any other one is a fault.
    """

    read: Callable[[bytes, Path], object]
    seeds: Callable[[Path], list[bytes]]
    refusals: tuple[type[Exception], ...] = (UserError,)


def _read_message(data: bytes, folder: Path) -> None:
    """Decode a message of either direction with its payload, which follows `--`; an offload goes through admission."""
    header, _, payload = data.partition(b"\n--\n")
    with suppress(m.ProtocolError):
        answer, packed = coding.decode_from_server([header, payload] if payload else [header])
        if isinstance(answer, m.Result):
            unpack_detections(answer, packed)
        return
    message, jpeg = coding.decode_from_client([header, payload] if payload else [header])
    if isinstance(message, m.Offload) and refusal_reason(message, jpeg, GEOMETRY, MAX_PIXELS) is None:
        estimated_cost(message, GEOMETRY)
    if coding.encode(message, jpeg)[0] != header:
        coding.decode_from_client(coding.encode(message, jpeg))


def _messages(folder: Path) -> list[bytes]:
    mask = np.arange(24).reshape(4, 6) % 2 == 0
    plain = m.Offload.of(1, 1, (32, 32), Configuration(), window_size=5, downsampling_factor=2)
    mixed = m.Offload.of(
        2, 2, (960, 540), Configuration(2, 90, 4), downsample_mask=mask, window_size=5, downsampling_factor=2
    )
    asking = msgspec.structs.replace(mixed, feedback=UncertainScores(0.2, 0.5))
    moved = np.ones((*mask.shape, 2), np.int8)
    cached = msgspec.structs.replace(mixed, caching=Caching.of(TokenCaching(1, mask, moved)))
    result = m.Result(1, 0, 0.1, 0.1, 0.1, 0.1, 0.1)
    asked = msgspec.structs.replace(result, asked=AskedRegions.of(mask))
    answers = (m.Welcome("m", "1", GEOMETRY), result, asked, m.Failure(1, "busy"), m.Pong(1))
    found = Detections.of([[0, 0, 9, 9], [5, 5, 9, 9]], [0.9, 0.5], [0, 2], np.zeros((2, MASK_SIDE, MASK_SIDE)))
    single = [coding.encode(each)[0] for each in (m.Hello("c"), m.Announce(1), m.Ping(1), *answers)]
    return [
        *single,
        coding.encode(result.with_detections(found))[0] + b"\n--\n" + pack_detections(found),
        *(coding.encode(each)[0] + b"\n--\n" + _jpegs(folder)[0] for each in (plain, mixed, asking, cached)),
    ]


def _read_jpeg(data: bytes, folder: Path) -> None:
    size = jpeg_size(data)
    if size[0] * size[1] <= MAX_PIXELS:
        decode_jpeg(data, MAX_PIXELS)


def _jpegs(folder: Path) -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    return [encode_jpeg(noise, 90), encode_jpeg(np.zeros_like(noise), 10)]


def _read_trace(data: bytes, folder: Path) -> None:
    path = folder / ("trace.csv" if b"," in data[:100] else "trace.up")
    path.write_bytes(data)
    opportunities = load_trace(path).scaled(0.4).starting_at(0.5).opportunities()
    opportunities.time_ms(opportunities.passed(1000) % len(opportunities))


def _traces(folder: Path) -> list[bytes]:
    save_trace(constant_trace(12, 40), folder / "seed.csv")
    save_mahimahi(constant_trace(0.5, 40), folder / "seed.up")
    rows = b"time_s,uplink_mbps,rtt_ms\n0,1,20\n1,0,20\n2.5,3e1,20\n4,,\n"
    return [
        rows,
        (folder / "seed.csv").read_bytes(),
        (folder / "seed.up").read_bytes(),
        b"1700000000000\n1700000000900\n",
    ]


def _read_records(data: bytes, folder: Path) -> None:
    path = folder / "records.parquet"
    path.write_bytes(data)
    for read in (read_frames, read_offloads):
        try:
            read(path)
        except UserError as error:
            refusal = error
        else:
            return
    raise refusal


def _records(folder: Path) -> list[bytes]:
    found = Detections.of([[0, 0, 8, 8]], [0.9], [0])
    frames = [FrameRecord(frame_index=i, capture_time_s=i / 30, render_time_s=i / 30, detections=found) for i in (0, 1)]
    masked = replace(found, masks=found.masks_or_boxes)
    offloads = [OffloadRecord(offload_id=0, frame_index=0, start_time_s=0.0, detections=masked)]
    write_run(folder, RecordsInfo("policy", "clip"), frames, offloads)
    return [path.read_bytes() for path in sorted(folder.glob("*.parquet"))]


def _read_pickle(data: bytes, folder: Path) -> None:
    path = folder / "weights.pkl"
    path.write_bytes(data)
    read_array_pickle(path)


def _pickles(folder: Path) -> list[bytes]:
    weights: dict[str, Any] = {"model": {"a": np.zeros((2, 3), np.float32), "b": np.arange(4)}, "epoch": 3}
    return [pickle.dumps(weights, protocol) for protocol in (2, 3, 4)]


TARGETS = {
    "message": Target(_read_message, _messages, (m.ProtocolError,)),
    "jpeg": Target(_read_jpeg, _jpegs, (ValueError,)),
    "trace": Target(_read_trace, _traces),
    "records": Target(_read_records, _records),
    "pickle": Target(_read_pickle, _pickles),
}
