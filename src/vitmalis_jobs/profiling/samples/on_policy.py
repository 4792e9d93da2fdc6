"""Moments as a running policy makes them: what its client knows when it decides, in runs on the virtual clock.

A policy that learned from others' masks is asked about its own, which its choices change. Here it plays, explores with
some probability, and what it was asked about is sampled (DAgger: Ross et al., 2011).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from vitmalis.client.session import ClientSession
from vitmalis.detector import BaseDetector
from vitmalis.estimation.features import configuration_space
from vitmalis.estimation.latency import load_latency_tables, save_latency_tables
from vitmalis.network.traces import AUTO, capacity_scale, resolve_trace
from vitmalis.offload import OffloadDecision, OffloadOutcome
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.regions import RegionClassifier
from vitmalis.regions.classify import downsample_mask
from vitmalis.regions.motion import MotionOptions
from vitmalis.tracker import TrackerOptions
from vitmalis.video.spec import VideoSpec, content_digest, open_video
from vitmalis.virtual.client import VirtualClient
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.network import connect
from vitmalis.virtual.server import VirtualServer
from vitmalis.virtual.testbed import paper_testbed
from vitmalis_jobs.profiling.samples.moments import Moment


class PolicyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`on_policy`: what plays, and over which links.

    Attributes:
        policy: section `policy` of an evaluation: name, kind and options.
        exploration: share of decisions with a random configuration.
        technologies: of the generated traces, one of which is drawn for each run.
        traces: number of traces of each technology.
        capacity_scale: factor on their rates; `auto` for that of the frames' size.
    """

    policy: dict[str, Any]
    exploration: float
    technologies: list[str]
    traces: int
    capacity_scale: float | Literal["auto"]


class ExploringPolicy(Policy):
    """A policy that decides at random now and then, and remembers what it was asked.

    Args:
        policy: decides otherwise.
        exploration: share of random decisions, 0..1.
        draws: of the choice.
    """

    def __init__(self, policy: Policy, exploration: float, draws: np.random.Generator) -> None:
        self.uses_tracker, self.uses_motion = policy.uses_tracker, policy.uses_motion
        self.states: list[ClientState] = []
        self._policy, self._exploration, self._draws = policy, exploration, draws
        self._space, self._classifier = configuration_space(), RegionClassifier()

    def decide(self, state: ClientState) -> OffloadDecision | None:
        """Let the policy decide, or draw a configuration for the masks of this frame if it is offloaded."""
        decision = self._policy.decide(state)
        if decision is None:
            return None
        self.states.append(replace(state, image=None))  # the images of a whole run would fill the memory
        if self._draws.random() >= self._exploration:
            return decision
        configuration = self._space.configuration(int(self._draws.integers(len(self._space))))
        mask = downsample_mask(self._classifier.classify(state).region_types, configuration.tau_d)
        return replace(
            decision, configuration=configuration, downsample_mask=mask if mask.any() else None, explanation=None
        )

    def observe(self, outcome: OffloadOutcome) -> None:
        """Pass the outcome on."""
        self._policy.observe(outcome)


def played(
    spec: VideoSpec,
    wanted: Sequence[int],
    detector: BaseDetector,
    options: PolicyOptions,
    device: tuple[TrackerOptions, MotionOptions],
    folder: Path,
    seed: int,
) -> Iterator[tuple[int, Moment]]:
    """Play a part once and yield, for each wanted frame, the first decision at or after it.

    Decisions before the first result are none: nothing is known about objects then.

    Args:
        spec: the part.
        wanted: frames, rising.
        detector: the server's model.
        options: what plays.
        device: the client's tracker and motion analyzer.
        folder: for latency tables.
        seed: of trace and exploration, with the part and the frames.

    Yields:
        The wanted frame and its moment, which is of the frame that was offloaded; the last one for frames after it.
    """
    key = f"{seed} {spec.name} {spec.start_frame} {list(wanted)}".encode()
    draws = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8]))
    policy = ExploringPolicy(_policy(spec, detector, options, folder), options.exploration, draws)
    technology = str(draws.choice(options.technologies))
    scale = capacity_scale(spec.width, spec.height) if options.capacity_scale == AUTO else options.capacity_scale
    trace = resolve_trace(
        "cellular", technology=technology, index=int(draws.integers(options.traces)),
        capacity_scale=scale, start_s=float(draws.uniform(0, 250)),
    )  # fmt: skip
    session = ClientSession(
        video=spec, server_address="", output_dir="", geometry=detector.geometry, tracker=device[0], motion=device[1]
    )
    server = VirtualServer(detector, spec, content_digest(spec))
    durations = Durations(load_latency_tables(_tables(spec, detector, folder)))
    VirtualClient(session, policy, server, connect("emulated", trace), durations).play()
    states = [state for state in policy.states if state.results and state.motion is not None]
    chosen = {frame: next((s for s in states if s.frame_index >= frame), states[-1]) for frame in wanted if states}
    images = {state.frame_index for state in chosen.values()}
    kept = {index: image for index, image in enumerate(open_video(spec)) if index in images}
    for frame, state in chosen.items():
        assert state.motion is not None
        age, image = state.result_age_frames, kept[state.frame_index]
        yield frame, Moment(state.frame_index, image, state.motion, state.tracked, age, "on_policy")


def _policy(spec: VideoSpec, detector: BaseDetector, options: PolicyOptions, folder: Path) -> Policy:
    """The policy, with the testbed's latency tables where it takes some."""
    given = {name: value for name, value in options.policy.items() if name not in ("name", "kind")}
    if "latency_tables" in given and given["latency_tables"] is None:
        given["latency_tables"] = str(_tables(spec, detector, folder))
    return build_policy(options.policy["kind"], **given)


def _tables(spec: VideoSpec, detector: BaseDetector, folder: Path) -> Path:
    """Latency tables of the paper's testbed for the frames of a part; computed once."""
    path = folder / f"testbed-{spec.width}x{spec.height}.json"
    if not path.is_file():
        geometry = detector.geometry
        grid = geometry.grid(spec.width, spec.height)
        save_latency_tables(paper_testbed(detector.model_id, detector.name, grid, geometry.restoration_points), path)
    return path
