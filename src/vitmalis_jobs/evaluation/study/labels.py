"""Policies as the paper writes them, for figures and the page; CSV files keep the names of the configuration."""

from __future__ import annotations

LABELS = {
    "back2back": "Back2Back",
    "trackb2b": "TrackB2B",
    "trackroi": "TrackRoI",
    "trackud": "TrackUD",
    "vitmalis": "ViTMAlis",
    "wo_regtype": "w/o RegType",
    "wo_mlps": "w/o MLPs",
    "wo_dynares": "w/o DynaRes",
    "oracle": "One-step look-ahead",
}
"""Label of each of the paper's policies, and of `oracle`."""


def label(policy: str) -> str:
    """Label of a policy, or of a variant or mark of it, such as `vitmalis (w=9) *`; others keep their name."""
    kind, space, rest = policy.partition(" ")
    return f"{LABELS.get(kind, kind)}{space}{rest}"


def counted(number: int, noun: str) -> str:
    """Number and noun, in the plural where it is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
