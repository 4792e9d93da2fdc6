"""A study's tables: policies next to the paper's numbers, paired differences, time saved, and gaps that are closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import pandas as pd

from vitmalis_jobs.common.machine_load import BUSY, BUSY_MARK, BUSY_NOTE
from vitmalis_jobs.evaluation.study.hindsight import FIXED
from vitmalis_jobs.evaluation.study.labels import counted
from vitmalis_jobs.evaluation.study.runs import paper_numbers
from vitmalis_jobs.evaluation.study.statistics import (
    Difference,
    by_pair,
    difference,
    gap_closed,
    median_reduction,
    results_by_pair,
)

BASELINE = "trackb2b"
OURS = "vitmalis"
_MS = {
    "E2E, ms": "e2e_latency_s_median",
    "network, ms": "network_s_median",
    "inference, ms": "inference_s_median",
    "encoding, ms": "encode_s_median",
    "decoding, ms": "decode_s_median",
}
_OTHER_SCORES = {
    "sAP": "streaming_ap",
    "sAP at IoU 0.5": "streaming_ap_50",
    "IDF1": "idf1",
    "MOTA": "mota",
    "identity switches": "id_switches",
}
_MASK_SCORES = {
    "F1 of masks": "rendering_mask_f1",
    "IoU of masks": "rendering_mask_iou",
    "boundary F1 of masks": "rendering_mask_boundary_f1",
}
_ESTIMATES = {
    "error of size, %": "payload_error_percent_median",
    "error of latency, %": "e2e_latency_error_percent_median",
    "bias of F1": "inference_f1_bias",
}
_LOSSES = {"offloads lost": "lost_offloads", "frames lost": "lost_frames"}


def busy_runs(runs: pd.DataFrame) -> pd.Series:
    """Whether each run was made on a busy machine."""
    return runs.reindex(columns=[BUSY])[BUSY] == 1.0


def busy_note(runs: pd.DataFrame) -> list[str]:
    """The footnote on runs that were made on a busy machine; empty without any."""
    busy = int(busy_runs(runs).sum())
    return [f"{busy} of {len(runs)} runs {BUSY_NOTE}"] if busy else []


def busy_caption(runs: pd.DataFrame) -> list[str]:
    """The caption of a table or figure that runs on a busy machine are part of; empty without any."""
    return [f"{BUSY_MARK} with runs that were played while the machine was busy or slow"] if busy_note(runs) else []


def marked(runs: pd.DataFrame, policies: Sequence[str]) -> dict[str, str]:
    """The name of each policy in tables and figures, with a mark if runs of it were made on a busy machine."""
    busy = set(runs.loc[busy_runs(runs), "policy"])
    return {policy: f"{policy} {BUSY_MARK}" if policy in busy else policy for policy in policies}


def overview(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """One row for each policy: medians over complete pairs, the paper's where it states them, and losses of all runs.

    Its name carries a mark where runs of it were made on a busy machine.
    """
    paper, f1, inference = paper_numbers(), by_pair(runs, "rendering_f1"), results_by_pair(runs, "inference_f1")
    names = marked(runs, policies)
    rows = []
    for policy in policies:
        row = {
            "policy": names[policy],
            "pairs": len(f1),
            "rendering F1, median": f1[policy].median(),
            "the paper's": paper["rendering_f1_median"].get(policy),
            "inference F1, mean": inference[policy].mean(),
            "deviation": inference[policy].std(ddof=0),
            "the paper's mean": paper["inference_f1_mean"].get(policy),
        }
        row |= {title: 1e3 * results_by_pair(runs, metric)[policy].median() for title, metric in _MS.items()}
        row["interval, frames"] = results_by_pair(runs, "offload_interval_frames_median")[policy].median()
        own = runs[runs["policy"] == policy]
        row |= {title: int(own[metric].sum()) for title, metric in _LOSSES.items() if metric in own}
        rows.append(row)
    return pd.DataFrame(rows)


def differences(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Paired differences of rendering F1 of the policies that are `compared`."""
    table, names = by_pair(runs, "rendering_f1"), marked(runs, policies)
    return pd.DataFrame([_difference_row(difference(table, *pair), names) for pair in compared(policies)])


def compared(policies: Sequence[str]) -> list[tuple[str, str]]:
    """The (policy, baseline) that a study compares.

    All are compared with `trackb2b`, the others with `fixed`, which says what adapting is worth, `vitmalis` with all.
    """
    bases = [base for base in (BASELINE, FIXED) if base in policies]
    pairs = [(policy, base) for i, base in enumerate(bases) for policy in policies if policy not in bases[: i + 1]]
    return pairs + [(OURS, policy) for policy in policies if OURS in policies and policy not in (OURS, *bases)]


def option_differences(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Paired differences of rendering F1 of `compared_variants`, each two on the pairs that both have played."""
    names, rows = marked(runs, policies), []
    for variant, base in compared_variants(runs):
        table = by_pair(runs[runs["policy"].isin((variant, base))], "rendering_f1")
        if len(table):
            rows.append(_difference_row(difference(table, variant, base), names))
    return pd.DataFrame(rows)


def compared_variants(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Every variant of a policy by its own options, and the variant of that policy which is the first in the study."""
    first, pairs = dict[str, str](), []
    for variant in runs["policy"].unique():
        kind, _, options = variant.partition(" (")
        base = first.setdefault(kind, variant)
        if "policy." in options and base != variant:
            pairs.append((variant, base))
    return pairs


def _difference_row(found: Difference, names: Mapping[str, str]) -> dict[str, object]:
    return {
        "policy": names[found.policy],
        "compared with": names[found.baseline],
        "pairs": found.pairs,
        "mean difference": found.mean,
        "from": found.low,
        "to": found.high,
        "from, over clips": found.clips_low,
        "to, over clips": found.clips_high,
        "higher in": f"{round(found.higher * found.pairs)} of {counted(found.pairs, 'pair')}",
        "verdict": found.verdict,
    }


def savings(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Network and inference time that `vitmalis` saves of `trackb2b`'s, and the paper's savings; empty without both."""
    if not {OURS, BASELINE} <= set(policies):
        return pd.DataFrame()
    paper, rows = paper_numbers()["saved_percent"], []
    for name in ("network", "inference"):
        value, low, high = median_reduction(by_pair(runs, f"{name}_s_median"), OURS, BASELINE)
        rows.append({"time": name, "saved, %": value, "from": low, "to": high, "the paper's, %": paper[name]})
    return pd.DataFrame(rows)


def other_scores(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """One row for each policy: means over complete pairs of scores that other fields use; empty for older runs."""
    scores = {title: by_pair(runs, metric) for title, metric in _OTHER_SCORES.items()}
    if any(pairs.empty for pairs in scores.values()):
        return pd.DataFrame()
    masks = {title: by_pair(runs, metric) for title, metric in _MASK_SCORES.items()}
    scores |= {title: pairs for title, pairs in masks.items() if not pairs.empty}
    names, pairs = marked(runs, policies), len(next(iter(scores.values())))
    rows = [
        {"policy": names[policy], "pairs": pairs} | {title: table[policy].mean() for title, table in scores.items()}
        for policy in policies
    ]
    return pd.DataFrame(rows)


def reasons(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Share of the explained decisions that each reason decided, mean over runs; policies without any are left out."""
    prefix, names = "share_decided_", marked(runs, policies)
    columns = sorted(column for column in runs.columns if column.startswith(prefix))
    shares = runs.dropna(subset=columns, how="all").fillna(dict.fromkeys(columns, 0.0))
    means = shares.groupby("policy")[columns].mean().rename(columns=lambda column: f"{column.removeprefix(prefix)}, %")
    shown = (100 * means).reindex([policy for policy in policies if policy in means.index])
    return shown.rename(index=names).rename_axis("policy").reset_index() if len(shown) and columns else pd.DataFrame()


def estimates(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Errors of the policies' estimates on real offloads, mean over runs; policies without estimates are left out."""
    known, names = runs.reindex(columns=["policy", *_ESTIMATES.values()]), marked(runs, policies)
    means = known.groupby("policy").mean().dropna(how="all").rename(columns={v: k for k, v in _ESTIMATES.items()})
    shown = means.reindex([policy for policy in policies if policy in means.index]).dropna(axis="columns", how="all")
    return shown.rename(index=names).rename_axis("policy").reset_index() if len(shown) else pd.DataFrame()


def gap_table(runs: pd.DataFrame, policies: Sequence[str], ceiling: str) -> pd.DataFrame:
    """Share of the gap from `trackb2b` to a ceiling that each policy closes; empty without both."""
    if not {ceiling, BASELINE} <= set(policies):
        return pd.DataFrame()
    table = by_pair(runs, "rendering_f1")
    names, rows = marked(runs, policies), []
    for policy in policies:
        value, low, high = (100 * share for share in gap_closed(table, policy, BASELINE, ceiling))
        rows.append({"policy": names[policy], "closes, %": value, "from": low, "to": high})
    return pd.DataFrame(rows)


def describe_order(runs: pd.DataFrame, policies: Sequence[str], name: Callable[[str], str] = str) -> str:
    """A sentence with the order of median rendering F1 here and in the paper, over the policies that it has.

    Args:
        runs, policies: of the study.
        name: what a policy is called in the sentence.
    """
    medians = by_pair(runs, "rendering_f1").median()
    paper = paper_numbers()["rendering_f1_median"]
    known = [policy for policy in policies if policy in paper]
    if len(known) < 2:
        return "fewer than two of the paper's policies were run under its options: there is no order to compare"
    ours = sorted(known, key=lambda policy: -medians[policy])
    theirs = sorted(known, key=lambda policy: -paper[policy])
    swapped = sum(ours.index(first) > ours.index(second) for first, second in pairwise(theirs))
    same = "the same order" if ours == theirs else f"{swapped} of {len(theirs) - 1} neighbours of it change places here"
    here, there = (" > ".join(map(name, order)) for order in (ours, theirs))
    return f"here {here}; in the paper {there}: {same}"
