"""What a run is, down to the bytes: two runs of one identity would tell the same, so the second need not be made."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.fingerprint import code_fingerprint, digest
from vitmalis.network.traces import Trace
from vitmalis.paths import file_sha256
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.common.machine import processor
from vitmalis_jobs.run.config import config_hash
from vitmalis_jobs.run.spec import RunSpec

RUN_MODULES = (
    "vitmalis_jobs.run.evaluate",
    "vitmalis.server.__main__",
    "vitmalis.client.__main__",
    "vitmalis.network.emulation.__main__",
)
"""The modules that play a run: ours, and those that a real-time run starts as processes."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's results depend on, each as a digest or a name; a run that differs in one of them is another run.

    Attributes:
        config: what was asked for, without what only says where results are kept (`config_hash`).
        code: the Python files of src/vitmalis and of evaluation/ that decide what is recorded.
        libraries: versions of `vitmalis.fingerprint.LIBRARIES`.
        clip: the video file's bytes, and which frames of it are played at what rate and size.
        trace: rates and round-trip times as played; empty for a link without emulation.
        model_id: the detector and its weights.
        latency_tables: those of the virtual clock and of the policy, by content.
        estimators: those of the policy, by content; empty for a policy without.
        machine: host and processor in real time, where they matter; empty in virtual time, where they do not.
    """

    config: str
    code: str
    clip: str
    trace: str
    model_id: str
    latency_tables: str
    estimators: str
    machine: str

    def digest(self) -> str:
        """Thirty-two hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


def identify(plan: RunSpec) -> Identity | None:
    """The identity of a planned run; None for a live source, which never shows the same thing twice."""
    config = plan.config
    if plan.clip.live:
        return None
    return Identity(
        config=config_hash(config),
        code=code_fingerprint(*RUN_MODULES),
        clip=clip_digest(plan.clip),
        trace=trace_digest(plan.trace) if plan.emulated else "",
        model_id=configured_model_id(config.model),
        latency_tables=files_digest([plan.latency_tables, plan.policy_options.get("latency_tables")]),
        estimators=_estimators_digest(plan.policy_options),
        machine="" if config.virtual else digest([platform.node(), processor()]),
    )


def clip_digest(clip: VideoSpec) -> str:
    """Of a video file's bytes and the played part of it; its name and place do not count."""
    part = clip.fps, clip.start_frame, clip.frames, clip.width, clip.height
    return digest([file_sha256(Path(clip.path)), part])


def trace_digest(trace: Trace) -> str:
    """Of everything that a link does with a trace; its name does not count."""
    content = hashlib.sha256(repr(trace.duration_s).encode())
    for column in (trace.time_s, trace.uplink_mbps, trace.rtt_ms, trace.opportunities_ms):
        content.update(b"|none" if column is None else b"|" + column.tobytes())
    return content.hexdigest()


def files_digest(paths: list[Path | str | None]) -> str:
    """Of the contents of files, in this order; None where there is none."""
    return digest([None if path is None else file_sha256(Path(path)) for path in paths])


@lru_cache(maxsize=8)
def configured_model_id(model: ModelOptions) -> str:
    """`model_id` of the detector that would be loaded, without loading it.

    Raises:
        UserError: an unknown model, or weights that cannot be had.
    """
    from vitmalis.detector.detector import model_id, weights_digest, weights_path
    from vitmalis.detector.sources import model_config

    config = model_config(model.name, **model.architecture)
    return model_id(config, weights_digest(weights_path(config, model.weights)), model.precision)


def _estimators_digest(policy_options: dict[str, Any]) -> str:
    if "estimator" not in policy_options:
        return ""
    from vitmalis.estimation.shipped import pair_files

    options = policy_options["model"], policy_options["estimator"], policy_options.get("estimators")
    return files_digest(list(pair_files(*options)))
