"""The fingerprint of a run: two runs of one fingerprint have the same results, so a sweep makes only one of them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.estimation.shipped import pair_files
from vitmalis.fingerprint import class_digest, code_fingerprint, digest
from vitmalis.network.traces import Trace
from vitmalis.paths import file_sha256
from vitmalis.policy import POLICY
from vitmalis.tracker import TRACKER, CustomTracker
from vitmalis.video.spec import VideoSpec, content_digest
from vitmalis_jobs.common.machine import processor
from vitmalis_jobs.run.config import EvaluationConfig, config_hash
from vitmalis_jobs.run.spec import PreparedRun

RUN_MODULES = (
    "vitmalis_jobs.run.realtime",
    "vitmalis_jobs.run.virtual",
    "vitmalis.server.__main__",
    "vitmalis.client.__main__",
    "vitmalis.network.emulation.__main__",
)
"""The modules that play a run: both executors, and those that a real-time run starts as processes."""


class RunFingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the results of a run depend on, each part as a digest or a name.

    Attributes:
        config: the configuration without what only says where results are kept, see `config_hash`.
        code: the code that plays the run, and the libraries behind it.
        clip: the video file's bytes, and which frames of it are played at what rate and size.
        trace: rates and round-trip times as played; empty for a link without emulation.
        model_id: the detector and its weights.
        latency_tables: those of the virtual clock and of the policy, by content.
        estimators: those of the policy, by content; empty for a policy without.
        custom: policy and tracker of other packages by their code, and the files that their options name by content.
        machine: host and processor in real time, where they matter; empty in virtual time, where they do not.
    """

    config: str
    code: str
    clip: str
    trace: str
    model_id: str
    latency_tables: str
    estimators: str
    custom: str
    machine: str

    def digest(self) -> str:
        """The fingerprint as 32 hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


def fingerprint_of(run: PreparedRun) -> RunFingerprint | None:
    """The fingerprint of a prepared run; None for a live source, which never shows the same thing twice."""
    config = run.config
    if run.clip.live:
        return None
    return RunFingerprint(
        config=config_hash(config),
        code=code_fingerprint(*RUN_MODULES),
        clip=clip_digest(run.clip),
        trace=trace_digest(run.spec.trace) if run.spec.emulated else "",
        model_id=run.model_id,
        latency_tables=files_digest([run.latency_tables, run.policy_options.get("latency_tables")]),
        estimators=_estimators_digest(run.policy_options),
        custom=digest(list(_custom_classes(config))),
        machine="" if config.virtual else digest([platform.node(), processor()]),
    )


def clip_digest(clip: VideoSpec) -> str:
    """Digest of a video file's bytes and the played part of it; its name and place do not count."""
    part = clip.fps, clip.start_frame, clip.frames, clip.width, clip.height
    return digest([content_digest(clip), part])


def trace_digest(trace: Trace) -> str:
    """Digest of everything that a link does with a trace; its name does not count."""
    content = hashlib.sha256(repr(trace.duration_s).encode())
    for column in (trace.time_s, trace.uplink_mbps, trace.rtt_ms, trace.opportunities_ms):
        content.update(b"|none" if column is None else b"|" + column.tobytes())
    return content.hexdigest()


def files_digest(paths: Sequence[Path | str | None]) -> str:
    """Digest of the contents of files, in this order; None where there is no file."""
    return digest([None if path is None else file_sha256(Path(path)) for path in paths])


def _custom_classes(config: EvaluationConfig) -> Iterator[str]:
    """Digests of the classes of other packages that play a part in the run."""
    tracker = config.client.tracker
    if config.policy_kind not in POLICY.shipped:
        yield class_digest(POLICY.find(config.policy_kind), config.policy_options)
    if isinstance(tracker, CustomTracker):
        yield class_digest(TRACKER.find(tracker.target), tracker.options)


def _estimators_digest(policy_options: dict[str, Any]) -> str:
    if "estimator" not in policy_options:
        return ""
    of = {name: policy_options[name] for name in ("window", "downsampling_factor") if name in policy_options}
    options = policy_options["model"], policy_options["estimator"], policy_options.get("estimators")
    return files_digest(list(pair_files(*options, **of)))
