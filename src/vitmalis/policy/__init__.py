"""Offloading policies, and how to build one by name."""

from __future__ import annotations

import inspect
from typing import Any

from vitmalis.estimation import LatencyTablesMissing
from vitmalis.extensions import ExtensionPoint, parameters
from vitmalis.policy.accmpeg import AccMPEG
from vitmalis.policy.back2back import Back2Back
from vitmalis.policy.bandit import Bandit
from vitmalis.policy.base import ClientState, Policy
from vitmalis.policy.cached import Cached
from vitmalis.policy.dds import DDS
from vitmalis.policy.fixed import Fixed
from vitmalis.policy.freshness import Freshness
from vitmalis.policy.oracle import Oracle
from vitmalis.policy.reducto import Reducto
from vitmalis.policy.trackb2b import TrackB2B
from vitmalis.policy.trackroi import TrackRoI
from vitmalis.policy.trackud import TrackUD
from vitmalis.policy.vitmalis import ViTMAlis

__all__ = [
    "POLICIES",
    "POLICY",
    "ClientState",
    "Policy",
    "build_policy",
    "policy_parameters",
]

POLICIES: dict[str, type[Policy]] = {
    "back2back": Back2Back,
    "trackb2b": TrackB2B,
    "trackroi": TrackRoI,
    "trackud": TrackUD,
    "fixed": Fixed,
    "vitmalis": ViTMAlis,
    "freshness": Freshness,
    "bandit": Bandit,
    "reducto": Reducto,
    "accmpeg": AccMPEG,
    "dds": DDS,
    "cached": Cached,
    "oracle": Oracle,
}


POLICY = ExtensionPoint("policy", "vitmalis.policies", Policy, POLICIES, (LatencyTablesMissing,))
"""Where policies come from: `POLICIES`, entry points, and classes of other packages by their dotted names."""


def build_policy(name: str, **options: Any) -> Policy:
    """Build the policy called `name` with its own options.

    Args:
        name: key of `POLICIES`, an entry point, or the dotted name of a class.
        options: keyword arguments of its constructor.

    Raises:
        UserError: the policy cannot be found, or an option is unknown, missing or of the wrong type.
    """
    return POLICY.build(name, options)


def policy_parameters(name: str) -> dict[str, inspect.Parameter]:
    """The options of the policy called `name`, annotated by their types; raises `UserError` as `build_policy` does."""
    return parameters(POLICY.find(name))
