"""Names of a run's metrics in MLflow: a section, a slash and a name; the most important sections and metrics first.

Records, summaries, reports and the Python interface use the names of `vitmalis.metrics.summarise`, such as
`rendering_f1`. MLflow's pages sort by name and draw one section for each part before the slash, so the same metric is
`f1/rendering` there. This is the only place that knows both; `metric_migration` renames metrics of older stores by it.
"""

from __future__ import annotations

from collections.abc import Mapping

from vitmalis.types import BoxSource

RENDERING_F1, INFERENCE_F1 = "f1/rendering", "f1/inference"
E2E_MEDIAN, NETWORK_MEDIAN, INFERENCE_MEDIAN = (
    f"latency/{stage}_median_s" for stage in ("e2e", "network", "inference")
)
PAYLOAD_MEDIAN, LOST_OFFLOADS = "traffic/payload_median_kib", "traffic/lost_offloads"

_STATISTICS = ("median", "p90", "mean")
_STAGES = ("encode", "uplink", "transfer", "queue", "decode", "downlink", "rtt")
_OVERHEADS = ("motion", "estimation", "optimization", "decision", "ahead", "tracking")
_LATENCIES = ("e2e_latency", "network", "inference", *_STAGES, *_OVERHEADS)


def _spread(before: str, after: str) -> dict[str, str]:
    """The statistics of one quantity; `{}` in both names stands for the statistic."""
    return {before.format(statistic): after.format(statistic) for statistic in _STATISTICS}


def _names() -> dict[str, str]:
    names = {
        "rendering_f1": RENDERING_F1,
        "rendering_f1_after_first_result": "f1/rendering_after_first_result",
        "inference_f1": INFERENCE_F1,
        "streaming_ap": "f1/streaming_ap",
        "streaming_ap_50": "f1/streaming_ap_50",
        "idf1": "f1/idf1",
        "mota": "f1/mota",
        "id_switches": "frames/id_switches",
        "rendering_precision": "f1/rendering_precision",
        "rendering_recall": "f1/rendering_recall",
        "rendering_f1_per_s": "f1/rendering_over_time",
        "frames": "frames/played",
        "lost_frames": "frames/lost",
        "undelivered_frames": "frames/undelivered",
        "declined_frames": "frames/declined",
    }
    for of in ("rendering", "inference"):
        names |= {f"{of}_mask_{score}": f"masks/{of}_{score}" for score in ("f1", "iou", "boundary_f1")}
    names |= {f"share_{source}": f"frames/share_{source}" for source in BoxSource}
    names |= _spread("staleness_frames_{}", "frames/staleness_{}")
    names |= _spread("result_age_frames_{}", "frames/result_age_{}")
    for name in _LATENCIES:
        names |= _spread(f"{name}_s_{{}}", f"latency/{name.removesuffix('_latency')}_{{}}_s")
    names |= {"offloads": "traffic/offloads", "lost_offloads": LOST_OFFLOADS}
    names |= _spread("offload_interval_frames_{}", "traffic/interval_{}_frames")
    names |= _spread("payload_kib_{}", "traffic/payload_{}_kib")
    names |= _spread("masks_kib_{}", "traffic/masks_{}_kib")
    names |= _spread("uplink_mbps_{}", "traffic/uplink_{}_mbps")
    names |= {
        "devices": "devices/count",
        "first_device_rendering_f1": "devices/first_rendering_f1",
        "first_device_e2e_latency_s_median": "devices/first_e2e_median_s",
        "worst_device_rendering_f1": "devices/worst_rendering_f1",
        "worst_device_e2e_latency_s_median": "devices/worst_e2e_median_s",
        "jain_rendering_f1": "devices/jain_rendering_f1",
        "jain_offloads": "devices/jain_offloads",
    }
    names |= _spread("estimates_age_frames_{}", "policy/estimates_age_{}_frames")
    names |= _spread("payload_error_percent_{}", "policy/payload_error_{}_percent")
    names |= _spread("e2e_latency_error_percent_{}", "policy/e2e_error_{}_percent")
    names |= {"inference_f1_bias": "policy/inference_f1_bias"}
    costs = ("cpu_s", "cache_hits", "cache_misses", "server_exits", "relay_exits")
    machine = ("other_load", "throttled_periods", "inference_slowdown", "busy_machine")
    names |= {name: f"run/{name}" for name in (*costs, *machine)}
    return names | {f"runs_{status}": f"sweep/runs_{status}" for status in ("finished", "failed", "taken_over")}


MLFLOW_NAMES: Mapping[str, str] = _names()
"""Name in MLflow of each metric, the important ones first."""


DECIDED = "share_decided_"
"""Beginning of metrics that are named after a policy's reasons, which each policy has of its own."""


def mlflow_name(metric: str) -> str:
    """Name of a metric in MLflow; one that is not in the table and has no section gets section `other`."""
    if metric.startswith(DECIDED):
        return f"policy/decided_{metric.removeprefix(DECIDED)}"
    return MLFLOW_NAMES.get(metric, metric if "/" in metric else f"other/{metric}")


def in_mlflow(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics by their names in MLflow, in the table's order, rounded to six significant digits."""
    order = {name: place for place, name in enumerate(MLFLOW_NAMES)}
    ordered = sorted(metrics, key=lambda name: order.get(name, len(order)))
    return {mlflow_name(name): float(f"{metrics[name]:.6g}") for name in ordered}


OFFLOAD_CURVES: Mapping[str, tuple[str, float]] = {
    "e2e_latency_s": ("offload/e2e_s", 1.0),
    "estimated_e2e_latency_s": ("offload/e2e_estimated_s", 1.0),
    "network_s": ("offload/network_s", 1.0),
    "inference_s": ("offload/inference_s", 1.0),
    "payload_bytes": ("offload/payload_kib", 1 / 1024),
    "estimated_payload_bytes": ("offload/payload_estimated_kib", 1 / 1024),
    "uplink_mbps": ("offload/uplink_mbps", 1.0),
    "quality": ("offload/quality", 1.0),
    "restoration_point": ("offload/restoration_point", 1.0),
    "downsampled_regions": ("offload/downsampled_regions", 1.0),
}
"""Name in MLflow of each field of an offload's record that is logged as a curve, and the factor to its unit."""
