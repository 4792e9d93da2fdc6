"""A run before it is played: `RunSpec`, resolved from its configuration, and `PreparedRun`, with all that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.client.session import ClientSession
from vitmalis.detector.config import ModelConfig
from vitmalis.metrics import MatchRule
from vitmalis.network.traces import Trace
from vitmalis.regions import ModelGeometry
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import ModelOptions
from vitmalis_jobs.run.config import EvaluationConfig


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """The detector of a run, described without loading it.

    Attributes:
        options: section `model` of the configuration.
        config: its architecture, with the configured attention window and downsampling factor.
    """

    options: ModelOptions
    config: ModelConfig

    @property
    def geometry(self) -> ModelGeometry:
        """Patch, window, downsampling factor and restoration points, which the client has to know."""
        return self.config.geometry


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A resolved run: names looked up, options checked against each other, nothing rendered, fetched or measured yet.

    Attributes:
        config: the typed configuration.
        clip_name: name of the clip, for records and titles.
        trace: as it is played, scaled and shifted.
        model: the detector.
        policy_needs_tables: whether the policy takes latency tables and none are configured.
    """

    config: EvaluationConfig
    clip_name: str
    trace: Trace
    model: ResolvedModel
    policy_needs_tables: bool = False

    @property
    def policy_options(self) -> dict[str, Any]:
        """Keyword arguments of the policy's constructor: as configured, with the window that the model has.

        The regions of a class of another package are what they are: it has no option for them.
        """
        options = self.config.policy_options
        if "window" not in options or self.config.model.custom:
            return options
        return options | {"window": self.model.geometry.window}

    @property
    def needs_tables(self) -> bool:
        """Whether latency tables have to be found or measured: the virtual clock and some policies use them."""
        return self.config.virtual or self.policy_needs_tables

    @property
    def title(self) -> str:
        """Name of the run wherever it is shown: policy first, as long names are cut at their end."""
        return f"{self.config.policy_name}-{self.clip_name}-{self.trace_name}"

    @property
    def emulated(self) -> bool:
        """Whether the link is emulated; without emulation the trace is not used."""
        return bool(self.config.link["name"] != "none")

    @property
    def trace_name(self) -> str:
        """Name of the trace that is played, or `none`."""
        return self.trace.name if self.emulated else "none"

    @property
    def rule(self) -> MatchRule:
        """How boxes are matched with references."""
        return MatchRule(self.config.eval.iou_threshold, self.config.eval.score_threshold)


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that can be played: its clip rendered or fetched, its weights and its latency tables on disk.

    Attributes:
        spec: the resolved run.
        clip: the played part of a video file, or a live source.
        model_id: of the detector with its weights, see `vitmalis.detector.detector.model_id`.
        policy_options: as configured, with the latency tables of this machine where the policy takes some.
        policy_stand_in: what the policy uses in place of what it should use; empty for nothing.
        latency_tables: file with the durations of the virtual clock; None in real time.
        busy: what kept the machine busy while its latency tables were measured, as phrases; empty for quiet ones.
    """

    spec: RunSpec
    clip: VideoSpec
    model_id: str
    policy_options: dict[str, Any]
    policy_stand_in: str = ""
    latency_tables: Path | None = None
    busy: tuple[str, ...] = ()

    @property
    def config(self) -> EvaluationConfig:
        """The typed configuration of the run."""
        return self.spec.config

    def session(self, address: str, directory: Path) -> ClientSession:
        """The session that the client plays.

        Args:
            address: of the server, or of the relay in front of it, tcp://host:port.
            directory: for the records.
        """
        config = self.config
        client = msgspec.structs.asdict(config.client)
        del client["threads"]  # of the process, not of the session
        client["keys"] = client["keys"] or ""
        return ClientSession(
            video=self.clip,
            server_address=address,
            model_id="" if self.clip.live else self.model_id,
            output_dir=str(directory),
            geometry=self.spec.model.geometry,
            policy=config.policy_name,
            policy_kind=config.policy_kind,
            policy_options=self.policy_options,
            trace=self.spec.trace_name,
            score_threshold=config.eval.score_threshold,
            **client,
        )
