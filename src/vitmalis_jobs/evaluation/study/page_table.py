"""A table of the report's page: numbers of a column with equally many decimals, and what the column means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import pandas as pd

from vitmalis_jobs.evaluation.study.labels import label

NO_VALUE = "–"
POLICY_COLUMNS = ("policy", "compared with")
"""Columns whose cells are names of policies, which the page shows as the paper writes them."""
_INTERVAL = "95 % interval of the mean by bootstrap over pairs; none for fewer than five"
_T_INTERVAL = "90 % interval of the mean difference by Student's t over pairs"
MEANINGS = {
    "policy": "offloading policy; a name in brackets says in which options it differs from others of its kind",
    "compared with": "the policy that is subtracted",
    "pairs": "number of pairs of clip and trace that all policies have played",
    "rendering F1, median": "median over pairs of the F1 of the boxes shown on all frames: what the user sees",
    "the paper's": "the paper's median, on its testbed with its clips, traces and model",
    "inference F1, mean": "mean over pairs of the F1 of the server's results on the frames they were computed for",
    "deviation": "standard deviation of inference F1 over pairs",
    "the paper's mean": "the paper's mean inference F1",
    "E2E, ms": "start of encoding to arrival of the result: median over pairs of each run's median",
    "network, ms": "uplink and downlink together: median over pairs of each run's median",
    "inference, ms": "the model's forward pass: median over pairs of each run's median",
    "encoding, ms": "packing and JPEG on the device: median over pairs of each run's median",
    "decoding, ms": "JPEG and unpacking on the server: median over pairs of each run's median",
    "interval, frames": "frames from one offload to the next: median over pairs of each run's median",
    "offloads lost": "offloads without a result, in all runs of the policy",
    "frames lost": "frames that the camera dropped as the client was too slow, in all runs of the policy",
    "mean difference": "mean over pairs of the policy's rendering F1 less the other's",
    "from": _INTERVAL,
    "to": _INTERVAL,
    "from, over clips": "the same interval by bootstrap over clips, as pairs of one clip share its frames",
    "to, over clips": "the same interval by bootstrap over clips, as pairs of one clip share its frames",
    "higher in": "share of the pairs in which the policy is higher",
    "verdict": "what the intervals allow to conclude",
    "90 % from": _T_INTERVAL,
    "90 % to": _T_INTERVAL,
    "over pairs": "what the tests allow to conclude, each pair of clip and trace as a sample",
    "90 % from, over clips": "the same interval over the means of clips",
    "90 % to, over clips": "the same interval over the means of clips",
    "over clips": "what the tests allow to conclude, the mean of each clip as a sample",
    "varied": "the assumption that is not the base's, and its value",
    "gain": "mean over pairs of the policy's rendering F1 less TrackB2B's under the same assumption",
    "change of the gain": "that gain less the gain of the base, on the same pairs",
    "sAP": "COCO's AP of the boxes on the screen, IoU 0.50 to 0.95: mean over pairs",
    "sAP at IoU 0.5": "the same at IoU 0.5 alone",
    "IDF1": "F1 of boxes whose object keeps its identity: mean over pairs",
    "MOTA": "1 less misses, wrong boxes and identity switches per object: mean over pairs; can be negative",
    "identity switches": "how often an object's box on the screen becomes another one: mean over pairs",
    "F1 of masks": "rendering F1 of masks, which match by the IoU of their pixels: mean over pairs",
    "IoU of masks": "mean IoU of the masks that match: mean over pairs",
    "boundary F1 of masks": "how closely the outlines of the masks that match agree: mean over pairs",
    "error of size, %": "estimated against actual size of offloads: median of a run, mean over runs",
    "error of latency, %": "estimated against actual end-to-end latency: median of a run, mean over runs",
    "bias of F1": "estimated less actual inference F1, frames weighted by their boxes: mean over runs",
    "time": "part of the end-to-end latency",
    "saved, %": "how much lower ViTMAlis's median is than TrackB2B's",
    "the paper's, %": "the saving that the paper states",
    "closes, %": "share of the mean gap between TrackB2B and what the heading names that the policy closes",
    "rendering F1": "mean over pairs of the F1 of the boxes shown on all frames",
    "inference F1": "mean over pairs of the F1 of the server's results on the frames they were computed for",
    "payload, KiB": "mean over pairs of each run's median size of an offload",
    "clip": "the clip that was played",
    "trace": "the trace of the uplink that it was played over",
    "best of the pair": "fixed configuration with the highest rendering F1 on this clip over this trace",
    "best of the clip": "fixed configuration with the highest mean over all traces of this clip",
    "best of the study": "fixed configuration with the highest mean over all pairs, each clip counting alike",
    "its F1, pair": "rendering F1 of the best of the pair",
    "its F1, clip": "rendering F1 of the best of the clip on this pair",
    "its F1, study": "rendering F1 of the best of the study on this pair",
    "footage": "real (filmed) or rendered (a scene in place of a video that is not here)",
    "kind of trace": "generated, measured, a user's file or a constant rate",
    "clips": "number of clips among the pairs",
    "frames": "number of frames: of all pairs, or of the clip",
    "traces": "number of traces that all policies have played this clip over",
    "mean": "mean of rendering F1 over pairs",
    "mean by frames": "mean of rendering F1 over pairs, each weighted by its frames",
    "after the first result, mean": "mean over pairs of the F1 of the frames from a policy's first result on",
    "after it, by frames": "the same, each pair weighted by its frames",
    "by frames": "mean difference over pairs, each weighted by its frames",
    "after the first result": "mean difference over pairs of the F1 from each policy's first result on",
    "regions": "which decision regions are downsampled",
    "share": "share of those regions that is downsampled",
    "restoration_point": "beta, the point of the backbone at which low-resolution regions are restored; 0 at its start",
    "time_ratio": "inference time relative to full resolution",
    "f1": "inference F1 against full resolution",
    "downsampled_share": "share of the frame's decision regions that is downsampled",
    "Method": "kind of estimator",
    "Metric": "what it estimates",
    "MAE": "mean absolute error",
    "RMSE": "root of the mean squared error",
    "MAPE (%)": "mean absolute error relative to the actual value",
    "Bias": "mean of estimate less actual value",
    "Regret": "mean F1 lost by choosing configurations by these estimates instead of the truth",
    "R2": "share of the variance that the estimator explains",
    "w": "window: patches along each side of a region of d = 1",
    "d": "downsampling factor of low-resolution regions",
    "region, px": "side of a decision region",
}
"""What a column holds, by its title."""
_BY_ENDING = {
    ", %": "share of a policy's explained decisions that this reason decided, mean over its runs",
    ", F1": "mean over the clip's traces of the policy's rendering F1",
}
"""What a column holds whose title begins with a name, by the title's end."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        meaning: explanation for readers who point at it; empty for none.
        numeric: whether its cells are numbers, which are aligned at the right.
        cells: text of each cell.
        keys: what the cells are sorted by.
    """

    title: str
    meaning: str
    numeric: bool
    cells: list[str]
    keys: list[str]


def page_columns(table: pd.DataFrame) -> list[Column]:
    """The columns of a table as the page shows them."""
    return [_column(str(title), list(table[title])) for title in table.columns]


def _column(title: str, values: list[object]) -> Column:
    meaning = MEANINGS.get(title) or next((said for end, said in _BY_ENDING.items() if title.endswith(end)), "")
    if all(value is None or isinstance(value, Real) for value in values):
        numbers = [math.nan if value is None else float(str(value)) for value in values]
        decimals = _decimals([number for number in numbers if not math.isnan(number)])
        cells = [NO_VALUE if math.isnan(number) else f"{number:.{decimals}f}" for number in numbers]
        return Column(title, meaning, True, cells, ["" if math.isnan(number) else repr(number) for number in numbers])
    texts = [NO_VALUE if value is None else str(value) for value in values]
    texts = [label(text) for text in texts] if title in POLICY_COLUMNS else texts
    return Column(title, meaning, False, texts, texts)


def _decimals(numbers: list[float]) -> int:
    """Decimals that show three significant digits of a column's largest number; none for whole numbers."""
    if all(number == int(number) for number in numbers):
        return 0
    largest = max(abs(number) for number in numbers)
    return 3 if largest <= 1.5 else 1 if largest < 100 else 0
