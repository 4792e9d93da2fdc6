"""Offloading policies, and how to build one by name."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import msgspec

from vitmalis.errors import UserError
from vitmalis.estimation import LatencyTablesMissing
from vitmalis.policy.back2back import Back2Back
from vitmalis.policy.bandit import Bandit
from vitmalis.policy.base import ClientState, Policy
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
    "oracle": Oracle,
}


def build_policy(name: str, **options: Any) -> Policy:
    """Build the policy called `name` with its own options.

    Raises:
        UserError: the name or an option is unknown, or an option is of the wrong type.
    """
    if name not in POLICIES:
        raise UserError(f"policy '{name}' is unknown: choose one of {', '.join(POLICIES)}")
    policy = POLICIES[name]
    if unknown := sorted(options.keys() - policy_parameters(policy).keys()):
        raise UserError(
            f"policy '{name}' does not take these options ({options}): got an unexpected keyword argument "
            f"{', '.join(map(repr, unknown))}"
        )
    mistyped = _mistyped(policy, options)
    try:
        built = policy(**options)
    except (TypeError, LatencyTablesMissing):
        if not mistyped:
            raise  # a TypeError then is a bug in the policy
    if mistyped:
        raise UserError(f"policy '{name}': {mistyped}")
    return built


def policy_parameters(policy: type[Policy]) -> dict[str, inspect.Parameter]:
    """The options of a policy by name, annotated by their types, with those that its constructor passes to its base."""
    found: dict[str, inspect.Parameter] = {}
    for constructor in (vars(base)["__init__"] for base in policy.__mro__ if "__init__" in vars(base)):
        types = get_type_hints(constructor)
        own = list(inspect.signature(constructor).parameters.values())[1:]
        named = [option for option in own if option.kind is not inspect.Parameter.VAR_KEYWORD]
        found = {option.name: option.replace(annotation=types.get(option.name, Any)) for option in named} | found
        if named == own:
            break
    return found


def _mistyped(policy: type[Policy], options: dict[str, Any]) -> str:
    """Say which option is not of the type that the constructor declares; empty if all are."""
    declared = policy_parameters(policy)
    for option, value in options.items():
        try:
            msgspec.convert(value, declared[option].annotation)
        except msgspec.ValidationError as error:
            return f"{option}={value}: {error}"
        except TypeError:  # a type that msgspec does not know, such as a class of the policy's own
            continue
    return ""
