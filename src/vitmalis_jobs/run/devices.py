"""Several devices on one server: what each of them plays, and what their results are together."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from vitmalis.types import Detections
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.metric_names import DECIDED
from vitmalis_jobs.run.directory import write_json
from vitmalis_jobs.run.prepare import prepare_clip
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.spec import PreparedRun

DEVICES_FILE = "devices.json"
DEVICES_FOLDER = "devices"
LATEST_START_S = 60
"""Most seconds that a device begins later in the clip than the first one, if the clip lasts so long."""

Metrics = dict[str, float]
_WORST: dict[str, Callable[[Sequence[float]], float]] = {"rendering_f1": min, "e2e_latency_s_median": max}
"""Metrics of single devices that those of a run show, and which of the values is the worst."""
_SHARED = ("rendering_f1", "offloads")
"""Metrics whose fairness is computed."""


@dataclass(frozen=True, slots=True)
class Device:
    """One of the devices of a run.

    Attributes:
        run: the run with the clip and the trace of this device.
        number: 0 for the first one.
        folder: where its records lie.
        references: of the frames that it plays; None where there are none.
    """

    run: PreparedRun
    number: int
    folder: Path
    references: list[Detections] | None


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """The records of a device that has played."""

    device: Device
    records: RunRecords


def device_runs(run: PreparedRun, terminal: Terminal) -> list[PreparedRun]:
    """The run of each device: the first one's as it is, each other's from another second of clip and trace.

    The seconds are drawn from the seed, the number of the device and the names of clip and trace: policies, and runs
    with different numbers of devices, meet the same ones.

    Args:
        run: of the first device.
        terminal: shows progress.
    """
    options, clip = run.config.devices, run.clip
    runs = [run]
    whole = prepare_clip(run.spec, terminal, LATEST_START_S) if options.count > 1 else clip
    latest_s = int((whole.frames - clip.frames) / clip.fps)
    for number in range(1, options.count):
        names = (zlib.crc32(name.encode()) for name in (clip.name, run.spec.trace.name))
        draws = np.random.default_rng((options.seed, number, *names))
        first = whole.start_frame + round(int(draws.integers(latest_s + 1)) * clip.fps)
        trace = run.spec.trace.starting_at(float(draws.integers(max(1, int(run.spec.trace.duration_s)))))
        own = msgspec.structs.replace(clip, path=whole.path, start_frame=first)
        runs.append(replace(run, clip=own, spec=replace(run.spec, trace=trace)))
    return runs


def device_folder(directory: Path, number: int) -> Path:
    """Where the records of a device lie: those of the first one in the run's own folder."""
    return directory / DEVICES_FOLDER / str(number) if number else directory


def combined(each: Sequence[Metrics]) -> Metrics:
    """The metrics of a run: the mean over its devices of each metric; with several, the first, the worst, and fairness.

    A metric that a device lacks has no value there, and its mean is over the others; but a reason that decided nothing
    on a device, where others did, has a share of 0.

    The first device plays the same whatever their number, so that only its metrics show what the others cost it.
    Fairness is Jain's index, (sum x)^2 / (n sum x^2): 1 where all devices have the same, 1 / n where one has all.
    """
    each = _with_zeros(each)
    names = dict.fromkeys(name for metrics in each for name in metrics)
    values = {name: [metrics[name] for metrics in each if name in metrics] for name in names}
    means = {name: float(np.mean(own)) for name, own in values.items()}
    if len(each) == 1:
        return means
    worst = {f"worst_device_{name}": choose(values[name]) for name, choose in _WORST.items() if name in values}
    fairness = {f"jain_{name}": jain(values[name]) for name in _SHARED if any(values.get(name, ()))}
    first = {f"first_device_{name}": each[0][name] for name in _WORST if name in each[0]}
    return means | {"devices": float(len(each))} | first | worst | fairness


def _with_zeros(each: Sequence[Metrics]) -> list[Metrics]:
    """The metrics of each device with a share of 0 for reasons that decided on others alone, so that shares add up."""
    reasons = dict.fromkeys(name for metrics in each for name in metrics if name.startswith(DECIDED))
    return [dict.fromkeys(reasons, 0.0) | own if reasons.keys() & own.keys() else own for own in each]


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness of values that are not negative, of which one is positive."""
    array = np.asarray(values, float)
    return float(array.sum() ** 2 / (len(array) * (array**2).sum()))


def write_devices(first: PreparedRun, others: Sequence[Device], each: Sequence[Metrics], directory: Path) -> Path:
    """Write the folder of each device, its first frame in the clip and its metrics; returns the file."""
    path = directory / DEVICES_FILE
    folders = [".", *(str(device.folder.relative_to(directory)) for device in others)]
    clips = [first.clip, *(device.run.clip for device in others)]
    rows = [
        {"records": folder, "first_frame": clip.start_frame, "metrics": metrics}
        for folder, clip, metrics in zip(folders, clips, each, strict=True)
    ]
    write_json(path, {"devices": rows})
    return path


def remove_devices(directory: Path) -> None:
    """Remove what the further devices of an earlier run left in its folder."""
    (directory / DEVICES_FILE).unlink(missing_ok=True)
    shutil.rmtree(directory / DEVICES_FOLDER, ignore_errors=True)
