"""A study's tables: policies beside the paper's numbers, paired differences, cuts, and what closes the oracle's gap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from vitmalis_jobs.evaluation.study.runs import paper_numbers
from vitmalis_jobs.evaluation.study.statistics import by_pair, difference, gap_closed, ratio_cut

BASELINE = "trackb2b"
OURS = "vitmalis"
_MS = {
    "E2E, ms": "e2e_latency_s_median",
    "network, ms": "network_s_median",
    "inference, ms": "inference_s_median",
    "encoding, ms": "encode_s_median",
    "decoding, ms": "decode_s_median",
}


def overview(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """One row a policy: medians over complete pairs, with the paper's where it states them."""
    paper, f1, inference = paper_numbers(), by_pair(runs, "rendering_f1"), by_pair(runs, "inference_f1")
    rows = []
    for policy in policies:
        row = {
            "policy": policy,
            "pairs": len(f1),
            "rendering F1, median": f1[policy].median(),
            "the paper's": paper["rendering_f1_median"].get(policy),
            "inference F1, mean": inference[policy].mean(),
            "deviation": inference[policy].std(ddof=0),
            "the paper's mean": paper["inference_f1_mean"].get(policy),
        }
        row |= {title: 1e3 * by_pair(runs, metric)[policy].median() for title, metric in _MS.items()}
        row["interval, frames"] = by_pair(runs, "offload_interval_frames_median")[policy].median()
        rows.append(row)
    return pd.DataFrame(rows)


def differences(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Rendering F1 of every policy beside the baseline, and of ours beside all others, over the same pairs."""
    table = by_pair(runs, "rendering_f1")
    compared = [(policy, BASELINE) for policy in policies if BASELINE in policies and policy != BASELINE]
    compared += [(OURS, policy) for policy in policies if OURS in policies and policy not in (OURS, BASELINE)]
    rows = []
    for policy, beside in compared:
        found = difference(table, policy, beside)
        rows.append(
            {
                "policy": policy,
                "beside": beside,
                "pairs": found.pairs,
                "mean difference": found.mean,
                "from": found.low,
                "to": found.high,
                "from, over clips": found.clips_low,
                "to, over clips": found.clips_high,
                "higher in": f"{100 * found.better:.0f} % of pairs",
                "verdict": found.verdict,
            }
        )
    return pd.DataFrame(rows)


def cuts(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """By how much ours cuts network and inference time of the baseline, beside the paper's cuts."""
    if not {OURS, BASELINE} <= set(policies):
        return pd.DataFrame()
    stated, rows = paper_numbers()["cut_percent"], []
    for name in ("network", "inference"):
        value, low, high = ratio_cut(by_pair(runs, f"{name}_s_median"), OURS, BASELINE)
        rows.append({"of": name, "cut, %": value, "from": low, "to": high, "the paper's, %": stated[name]})
    return pd.DataFrame(rows)


def regret(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Share of the gap between the baseline and the oracle that each policy closes; empty without an oracle."""
    if not {"oracle", BASELINE} <= set(policies):
        return pd.DataFrame()
    table = by_pair(runs, "rendering_f1")
    rows = []
    for policy in policies:
        value, low, high = (100 * share for share in gap_closed(table, policy))
        rows.append({"policy": policy, "closes, %": value, "from": low, "to": high})
    return pd.DataFrame(rows)


def order_in_words(runs: pd.DataFrame, policies: Sequence[str]) -> str:
    """The order of median rendering F1, beside the paper's of the same policies."""
    medians = by_pair(runs, "rendering_f1").median()
    stated = paper_numbers()["rendering_f1_median"]
    known = [policy for policy in policies if policy in stated]
    ours = sorted(known, key=lambda policy: -medians[policy])
    theirs = sorted(known, key=lambda policy: -stated[policy])
    swapped = sum(ours.index(first) > ours.index(second) for first, second in pairwise(theirs))
    same = "the same order" if ours == theirs else f"{swapped} of {len(theirs) - 1} neighbours of it change places here"
    return f"here {' > '.join(ours)}; in the paper {' > '.join(theirs)}: {same}"
