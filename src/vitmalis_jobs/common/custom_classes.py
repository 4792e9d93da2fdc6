"""Sections of a configuration that name a class of another package, in the form that the typed configuration holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hydra.core.config_store import ConfigStore

from vitmalis.extensions import TARGET, entry_points

POLICIES, TRACKERS = "vitmalis.policies", "vitmalis.trackers"
VIDEOS, DETECTORS = "vitmalis.videos", "vitmalis.detectors"
"""Groups of entry points."""
MODEL_SIZE = {"max_width": 960, "max_height": 540}
"""Largest frames of a model that does not say its own."""
_MODEL: dict[str, Any] = MODEL_SIZE | {
    "source": "custom",
    "config": None,
    "weights": None,
    "device": "cpu",
    "precision": "fp32",
    "compile": False,
    "window": None,
}
"""Options of all models, which a class of another package has not."""


def offer_entry_points() -> None:
    """Make the entry points of installed packages choices of their groups, besides the files in `conf/`."""
    for section, group, package, options in (
        ("policy", POLICIES, "policy", {}),
        ("tracker", TRACKERS, "client.tracker", {}),
        ("video", VIDEOS, "video", {}),
        ("model", DETECTORS, "model", MODEL_SIZE),
    ):
        for name in entry_points(group):
            ConfigStore.instance().store(name, {"name": name} | options, section, package, f"entry point of {group}")


def custom_classes_folded(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the options of a tracker, video or model of another package in a dictionary of their own.

    A policy's options stay where they are; its name, like that of the others, is by default that of its class.
    """
    video, client, model = values.get("video"), values.get("client"), values.get("model")
    tracker = client.get("tracker") if isinstance(client, dict) else None
    folded: dict[str, Any] = {}
    if isinstance(values.get("policy"), dict):
        folded["policy"] = _named(values["policy"])
    if isinstance(video, dict) and _is_custom(video, VIDEOS):
        folded["video"] = _folded(video, "name", ())
    if isinstance(client, dict) and isinstance(tracker, dict) and _is_custom(tracker, TRACKERS):
        folded["client"] = client | {"tracker": {"name": "custom"} | _folded(tracker, "label", ("times",))}
    if isinstance(model, dict) and "custom" not in model and _is_custom(model, DETECTORS):
        section = _folded(model, "name", MODEL_SIZE)
        custom = {"target": section.pop("target"), "options": section.pop("options")}
        folded["model"] = _MODEL | section | {"custom": custom}
    return values | folded


def _is_custom(section: dict[str, Any], group: str) -> bool:
    return TARGET in section or section.get("name") in entry_points(group)


def _named(section: dict[str, Any]) -> dict[str, Any]:
    """The section with a name, the class's where it has none."""
    target = section.get(TARGET)
    return {"name": str(target).rpartition(".")[2]} | section if target else section


def _folded(section: dict[str, Any], name_key: str, kept: Collection[str]) -> dict[str, Any]:
    section, known = _named(section), {"name", TARGET, *kept}
    options = {key: value for key, value in section.items() if key not in known}
    folded = {name_key: section["name"], "target": section.get(TARGET) or section["name"], "options": options}
    return folded | {key: section[key] for key in kept if key in section}
