"""The Dockerfile of the edge server: what it copies and runs is in this repository. No image is built here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vitmalis.server import health
from vitmalis.server.__main__ import build_parser

ROOT = Path(__file__).parents[2]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())


def arguments(instruction: str) -> list[str]:
    """The JSON list of an instruction."""
    (found,) = re.findall(rf"{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return list(json.loads(found))


def test_the_server_takes_the_arguments_of_the_image() -> None:
    assert arguments("^ENTRYPOINT")[1:] == ["-m", "vitmalis.server"]
    options = build_parser().parse_args(arguments("^CMD"))
    assert (options.keys, options.model, options.device) == ("/keys/server", "vitdet_l", "cuda:0")
    assert options.address.rpartition(":")[2] in re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)


def test_the_health_check_asks_the_server_of_the_image() -> None:
    _, dash_m, module, address = arguments("HEALTHCHECK .*CMD")
    assert (dash_m, module) == ("-m", health.__name__)
    assert address.rpartition(":")[2] == arguments("^CMD")[1].rpartition(":")[2]


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    admitted = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied
    assert set(copied) == admitted
    assert all((ROOT / name).exists() for name in copied)
