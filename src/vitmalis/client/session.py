"""The session: everything that a client process needs to know, as a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from vitmalis.errors import UserError
from vitmalis.regions import ModelGeometry, MotionOptions
from vitmalis.tracker import LucasKanadeOptions, TrackerOptions
from vitmalis.types import SCORE_THRESHOLD
from vitmalis.untrusted_files import decode_json
from vitmalis.video.spec import VideoSpec

Relevance = Literal["masks", "boxes"]


class ClientSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configuration of one run of the client.

    Attributes:
        video: what the camera plays.
        server_address: tcp://host:port of the server, or of the relay in front of it.
        output_dir: folder for the records.
        geometry: of the server's model; a server that says otherwise is refused.
        policy: name of the policy in the records.
        policy_kind, policy_options: arguments of `vitmalis.policy.build_policy`; an empty kind stands for `policy`.
        tracker, motion: see `vitmalis.tracker.TrackerOptions` and `MotionOptions`.
        model_id: expected of the server, so that results are scored against the same model; empty for any.
        keys: folder with this client's keys (`python -m vitmalis.keys`); empty for a server without keys.
        trace: name of the network trace, for the records.
        score_threshold: boxes under this score are neither shown nor tracked.
        buffer_frames: capacity of the camera buffer; a client that falls further behind loses the oldest frames.
        history_frames: frames kept for catch-up tracking.
        offload_timeout_s: an offload without an answer for longer is lost.
        connect_timeout_s: how long to wait for the server before giving up.
        drain_s: how long to wait, after the last frame, for the offloads in flight.
        in_flight: offloads that may be without an answer at a time.
        keep_missed: whether an object that one result misses is kept, tracked, until the next.
        relevance: what of an object counts in the policy's regions: its mask, where it has one, or its box.
    """

    video: VideoSpec
    server_address: str
    output_dir: str
    geometry: ModelGeometry
    policy: str = "trackb2b"
    policy_kind: str = ""
    policy_options: dict[str, Any] = {}
    tracker: TrackerOptions = LucasKanadeOptions()
    motion: MotionOptions = MotionOptions()
    model_id: str = ""
    keys: str = ""
    trace: str = ""
    score_threshold: float = SCORE_THRESHOLD
    buffer_frames: int = 8
    history_frames: int = 96
    offload_timeout_s: float = 30.0
    connect_timeout_s: float = 60.0
    drain_s: float = 5.0
    in_flight: int = 1
    keep_missed: bool = False
    relevance: Relevance = "masks"


SESSION_FILE = "session.json"
"""Name of the session's file in a run's folder."""


def write_session(session: ClientSession, path: Path) -> None:
    """Write a session as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(session), indent=2))


def read_session(path: Path) -> ClientSession:
    """Read a session that `write_session` wrote.

    Raises:
        UserError: the file is missing or is no session.
    """
    try:
        return decode_json(path.read_bytes(), ClientSession)
    except OSError as error:
        raise UserError(f"session file '{path}' cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UserError(f"session file '{path}' is no client session: {error}") from error
