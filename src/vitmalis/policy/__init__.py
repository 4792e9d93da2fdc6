"""Offloading policies and how to build one by name."""

from __future__ import annotations

from typing import Any

from vitmalis.errors import UserError
from vitmalis.policy.back2back import Back2Back
from vitmalis.policy.base import ClientState, Policy
from vitmalis.policy.oracle import Oracle
from vitmalis.policy.trackb2b import TrackB2B
from vitmalis.policy.trackroi import TrackRoI
from vitmalis.policy.trackud import TrackUD
from vitmalis.policy.vitmalis import ViTMAlis

__all__ = [
    "POLICIES",
    "ClientState",
    "Policy",
    "build_policy",
]

POLICIES: dict[str, type[Policy]] = {
    "back2back": Back2Back,
    "trackb2b": TrackB2B,
    "trackroi": TrackRoI,
    "trackud": TrackUD,
    "vitmalis": ViTMAlis,
    "oracle": Oracle,
}


def build_policy(name: str, **options: Any) -> Policy:
    """Build the policy called `name` with its own options.

    Raises:
        UserError: the name or an option is unknown.
    """
    if name not in POLICIES:
        raise UserError(f"policy '{name}' is unknown: choose one of {', '.join(POLICIES)}")
    try:
        return POLICIES[name](**options)
    except TypeError as error:
        raise UserError(f"policy '{name}' does not take these options ({options}): {error}") from error
