"""Split inference next to offloaded JPEGs on the virtual clock: `python -m profiling.split_inference`.

On frames of each clip the detector is split after its stem and after each global block: the features there are coded
(fp16 or int8, with zlib), and their bytes, and the F1 of what follows, are measured next to those of JPEGs. The virtual
clock's network and the paper's testbed (`vitmalis.virtual.testbed`, whose ViTDet-L the detector stands for) then give
the end-to-end latency over each trace: the device takes `--device-factors` times as long as the server for its part of
the model. One JSON object goes to standard output and, with a plot, to `runs/profiling`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitmalis.command_line import CommandLine
from vitmalis.detector import preset
from vitmalis.detector.engines import EAGER
from vitmalis.errors import UserError
from vitmalis.network.traces import FULL_HD, Trace, capacity_scale, constant_trace, resolve_trace
from vitmalis.video.spec import fit_size
from vitmalis.virtual.testbed import paper_testbed
from vitmalis_jobs.common.arguments import check_positive, listed
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.clips import read_frames, spread_frames
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.detectors import has_random_weights
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.plotting import BLACK, canvas, colour, save_figure
from vitmalis_jobs.profiling.measured_result import report_result
from vitmalis_jobs.profiling.next_to_full import Subject, add_subject_options, load_subject
from vitmalis_jobs.profiling.split_features import NOWHERE, Payload, empty_payloads, send_frame
from vitmalis_jobs.profiling.split_latency import TESTBED_MODEL, SplitDurations, device_shares, latencies_s

DEVICE = "device"
"""In the place of a split: the device computes everything, and sends nothing."""
Traces = dict[str, list[Trace]]
ByTrace = dict[str, list[float]]
"""A latency in ms for each trace, by group."""


def chosen_traces(options: argparse.Namespace) -> Traces:
    """The traces by group: generated ones of both technologies, as runs play them, and constant links."""
    scale = capacity_scale(*fit_size(*FULL_HD, options.max_width, options.max_height))
    cellular = {
        technology: [
            resolve_trace("cellular", technology=technology, index=index, capacity_scale=scale)
            for index in options.indices
        ]
        for technology in ("4g", "5g")
    }
    return cellular | {f"{rate:g}_mbps": [constant_trace(rate, options.rtt_ms)] for rate in options.mbps}


def measure_payloads(subject: Subject, options: argparse.Namespace, terminal: Terminal) -> list[Payload]:
    """Send frames of all clips as JPEGs and at each split."""
    payloads = empty_payloads(subject.detector.model.backbone.vit, options.qualities)
    done, total = 0, len(subject.clips) * options.frames
    for spec in subject.clips:
        for index, image in read_frames(spec, spread_frames(spec, options.frames)):
            terminal.step(done, total, "features", f"{spec.name}, frame {index}")
            send_frame(subject.detector, image, payloads)
            done += 1
    terminal.step(total, total, "features")
    return payloads


class Latencies:
    """End-to-end latencies of payloads over traces, by the virtual clock.

    Args:
        subject: the detector, which stands for the testbed's.
        traces: by group.
        options: of the job.
    """

    def __init__(self, subject: Subject, traces: Traces, options: argparse.Namespace) -> None:
        detector = subject.detector
        self._geometry, self._channels = detector.geometry, detector.model.backbone.vit.config.embed_dim
        self._traces, self._factors, self._offloads = traces, options.device_factors, options.offloads
        grid = self._geometry.grid(options.max_width, options.max_height)
        self._tables = paper_testbed(detector.model_id, detector.name, grid, self._geometry.restoration_points)
        self._model_ms = 1e3 * float(self._tables.inference_s(0, 0))
        self._shares = [0.0, *device_shares()]

    def rows(self, payloads: Sequence[Payload], terminal: Terminal) -> list[dict[str, Any]]:
        """Rows of JPEGs, then of everything on the device, then of features, for each number of channels and factor."""
        jpegs = [payload for payload in payloads if payload.split == NOWHERE]
        features = [payload for payload in payloads if payload.split != NOWHERE]
        jpeg_ms = [self._e2e_ms(jpeg, 1.0, 0.0) for jpeg in jpegs]
        rows = [self._row(jpeg, None, None, jpeg.facts(), own) for jpeg, own in zip(jpegs, jpeg_ms, strict=True)]
        rows += self._device_rows()
        for done, payload in enumerate(features):
            terminal.step(done, len(features), "traces", f"{payload.split}, {payload.coding}")
            for channels in sorted({self._channels, preset(TESTBED_MODEL).vit.embed_dim}):
                rows += self._feature_rows(payload, channels, jpeg_ms[0])
        terminal.step(len(features), len(features), "traces")
        return [row | {"wins": wins(row["e2e_ms"], jpeg_ms[0])} for row in rows]

    def _feature_rows(self, payload: Payload, channels: int, jpeg_ms: ByTrace) -> list[dict[str, Any]]:
        """Rows of features, of which so many channels have bytes in proportion, for each factor."""
        scale = channels / self._channels
        device_ms = self._shares[payload.part] * self._model_ms
        even = {"break_even_factor": break_even_factor(self._e2e_ms(payload, scale, 0.0), jpeg_ms, device_ms)}
        return [
            self._row(payload, channels, factor, payload.facts(scale) | even, self._e2e_ms(payload, scale, factor))
            for factor in self._factors
        ]

    def _device_rows(self) -> list[dict[str, Any]]:
        """Rows of a device that computes everything, for each factor."""
        nothing, facts = Payload(DEVICE, 0, "nothing"), {"kib": 0.0, "encode_ms": 0.0, "f1": 1.0}

        def e2e_ms(factor: float) -> ByTrace:
            return {group: [round(factor * self._model_ms, 1)] * len(own) for group, own in self._traces.items()}

        return [self._row(nothing, None, factor, facts, e2e_ms(factor)) for factor in self._factors]

    def _e2e_ms(self, payload: Payload, scale: float, factor: float) -> ByTrace:
        """Median latency of a payload over each trace, with its bytes times a scale."""
        sizes = [round(scale * size) for size in payload.sizes]
        durations = SplitDurations(self._tables, self._shares[payload.part], factor)

        def median_ms(trace: Trace) -> float:
            found = latencies_s(trace, sizes, durations, self._geometry, self._offloads)
            return round(1e3 * statistics.median(found), 1)

        return {group: [median_ms(trace) for trace in traces] for group, traces in self._traces.items()}

    @staticmethod
    def _row(
        payload: Payload, channels: int | None, factor: float | None, facts: dict[str, Any], e2e_ms: ByTrace
    ) -> dict[str, Any]:
        way = {"split": payload.split, "coding": payload.coding, "channels": channels, "device_factor": factor}
        medians = {f"e2e_{group}_ms": round(statistics.median(values), 1) for group, values in e2e_ms.items()}
        return {**way, **facts, **medians, "e2e_ms": e2e_ms}


def wins(e2e_ms: ByTrace, jpeg_ms: ByTrace) -> int:
    """Number of traces on which the latency is below that of a JPEG."""
    return sum(own < base for own, base in _pairs(e2e_ms, jpeg_ms))


def break_even_factor(instant_ms: ByTrace, jpeg_ms: ByTrace, device_ms: float) -> float:
    """The device factor at which a split is as fast as a JPEG, as a median over the traces.

    Args:
        instant_ms: latency of the split if the device took no time for its part.
        jpeg_ms: latency of the JPEG.
        device_ms: time of the server for the device's part.

    Returns:
        Below 0 where no device is fast enough.
    """
    return round(statistics.median((base - own) / device_ms for own, base in _pairs(instant_ms, jpeg_ms)), 2)


def _pairs(ours: ByTrace, base: ByTrace) -> list[tuple[float, float]]:
    return [pair for group in ours for pair in zip(ours[group], base[group], strict=True)]


def measure(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Measure what is sent, and compute when its result arrives.

    Raises:
        UserError: no such model, clip or trace, or a number that is out of range.
    """
    check_positive(options, "offloads")
    traces = chosen_traces(options)
    subject = load_subject(options, terminal)
    if has_random_weights(subject.model):
        raise UserError("model.weights=random: features of random weights are compressed otherwise; give a file")
    if subject.detector.engine != EAGER:
        raise UserError("model.engine=fused cannot be split between its blocks; use model.engine=eager")
    payloads = measure_payloads(subject, options, terminal)
    rows = Latencies(subject, traces, options).rows(payloads, terminal)
    return {
        **subject.facts(options),
        "testbed": f"the paper's, with {TESTBED_MODEL}; more channels than measured have bytes in proportion",
        "device_shares": [round(share, 4) for share in device_shares()],
        "traces": {group: [trace.name for trace in own] for group, own in traces.items()},
        "mean_mbps": {group: [round(trace.mean_mbps(), 2) for trace in own] for group, own in traces.items()},
        "wins": f"traces, of {sum(len(own) for own in traces.values())}, with a lower latency than {rows[0]['coding']}",
        "rows": rows,
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw latency over the mean capacity of traces: a panel for each device factor, a line for each split as int8."""
    jpeg, *others = result["rows"]
    shown = [row for row in others if row["coding"] == "int8"]
    factors, channels = (sorted({row[key] for row in shown}) for key in ("device_factor", "channels"))
    figure, axes = canvas(
        f"{result['model']}: features as int8, and {jpeg['coding']}", columns=len(factors), sharey=True
    )
    for own, factor in zip(axes, factors, strict=True):
        own.plot(*_curve(result, jpeg), "o-", ms=3, color=BLACK, label=jpeg["coding"])
        for position, split in enumerate(dict.fromkeys(row["split"] for row in shown)):
            for row in (row for row in shown if (row["split"], row["device_factor"]) == (split, factor)):
                line = "o-" if row["channels"] == channels[0] else "o--"
                label = f"split after {split}, {row['channels']} channels"
                own.plot(*_curve(result, row), line, ms=3, color=colour(position), label=label)
        own.set(
            title=f"device factor {factor:g}", xlabel="mean capacity of the uplink, Mbps", xscale="log", yscale="log"
        )
    axes[0].set_ylabel("median end-to-end latency, ms")
    axes[-1].legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, path)


def _curve(result: dict[str, Any], row: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Capacities of the traces, rising, and the latency of a row over each."""
    points = [
        point for group, rates in result["mean_mbps"].items() for point in zip(rates, row["e2e_ms"][group], strict=True)
    ]
    capacities, latencies = zip(*sorted(points), strict=True)
    return list(capacities), list(latencies)


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.split_inference",
        "Compute where split inference loses to an offloaded JPEG: bytes, F1 and latency of each split over traces.",
        {
            "": "every split over 4G and 5G traces and two fast links, minutes",
            "--clips market1906 --frames 2 --device-factors 5": "a quick look, with a faster device",
        },
    )
    add_subject_options(parser)
    parser.add_argument(
        "--qualities",
        type=listed(int, 1, 100),
        default=[95, 70],
        help="qualities of JPEGs, the one to beat first",
    )
    parser.add_argument(
        "--device-factors",
        type=listed(float, 0, 1e6),
        default=[1.0, 20.0],
        help="how many times as long as the server the device takes; 20: an Orin Nano next to an RTX 5090",
    )
    parser.add_argument(
        "--indices", type=listed(int, 0, 29), default=[0, 5, 10, 15, 20, 25], help="numbers of the 4G and the 5G traces"
    )
    parser.add_argument(
        "--mbps", type=listed(float, 0.1, 2000), default=[100.0, 1000.0], help="rates of constant links"
    )
    parser.add_argument("--rtt-ms", type=float, default=10.0, help="round-trip time of constant links in ms")
    parser.add_argument("--offloads", type=int, default=20, help="offloads over each trace, at even distances")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/profiling/split_inference.json"), help="file of the result"
    )
    return parser


def profile(options: argparse.Namespace) -> None:
    """Measure, compute, draw, print and store."""
    terminal, meter = Terminal.on_stderr(), LoadMeter()
    result = measure(options, terminal)
    title = f"{result['model']} {result['model_id']}"
    latencies = [f"e2e_{group}_ms" for group in result["traces"]]
    columns = ["split", "coding", "channels", "device_factor", "kib", "f1", *latencies, "wins", "break_even_factor"]
    report_result(result, options.output, terminal, meter.load(), title=title, columns=columns, draw=draw)


main = option_job(command_line, profile)


if __name__ == "__main__":
    sys.exit(main())
