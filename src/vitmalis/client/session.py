"""What a client process is told: one struct, which travels as a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from vitmalis.errors import UserError
from vitmalis.regions import ModelGeometry, MotionOptions
from vitmalis.tracker import TrackerOptions
from vitmalis.types import SCORE_THRESHOLD
from vitmalis.video.spec import VideoSpec


class ClientSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of the client.

    Attributes:
        video: what the camera plays.
        server_address: tcp://host:port of the server, or of the relay in front of it.
        output_dir: folder for the records.
        geometry: of the server's model; a server that says otherwise is refused.
        policy: how the policy is called in the records.
        policy_kind, policy_options: see `vitmalis.policy.build_policy`; no kind means that of this name.
        tracker, motion: see `TrackerOptions` and `MotionOptions`.
        model_id: what the server must serve, so that results are judged against the same model; empty for any.
        keys: folder with this client's keys (`python -m vitmalis.keys`); empty for a server without.
        trace: name of the network trace, for the records.
        score_threshold: boxes under this score are neither shown nor tracked.
        buffer_frames: frames the camera buffer holds; a client that is later loses the oldest.
        history_frames: frames kept for catch-up tracking.
        offload_timeout_s: an offload without an answer for longer is given up.
        connect_timeout_s: how long to wait for the server before giving up.
        drain_s: how long to wait, after the last frame, for the result under way.
    """

    video: VideoSpec
    server_address: str
    output_dir: str
    geometry: ModelGeometry
    policy: str = "trackb2b"
    policy_kind: str = ""
    policy_options: dict[str, Any] = {}
    tracker: TrackerOptions = TrackerOptions()
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


SESSION_FILE = "session.json"
"""In a run's folder: how it can be played, and looked into, again."""


def write_session(session: ClientSession, path: Path) -> None:
    """Write as indented JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(session), indent=2))


def read_session(path: Path) -> ClientSession:
    """Read what `write_session` wrote.

    Raises:
        UserError: the file is missing or is no session.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClientSession)
    except OSError as error:
        raise UserError(f"session file '{path}' cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UserError(f"session file '{path}' is no client session: {error}") from error
