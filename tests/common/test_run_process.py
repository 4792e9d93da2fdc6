"""Whether the process that makes a run is there: by its id where that means something, else by its heartbeat."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from vitmalis_jobs.common.run_process import SILENT_S, alive, process_tags

NOBODY = {"process.pid": str(2**22 + 1)}


@pytest.fixture
def own() -> dict[str, str]:
    """Tags of this process, with a heartbeat of this moment: a suite may last longer than a heartbeat counts."""
    return process_tags()


def test_a_process_in_sight_is_looked_for(own: dict[str, str]) -> None:
    assert alive(own)
    assert not alive(own | NOBODY)
    assert not alive(own | {"process.started": "1.0"}), "the id was given to another process"
    assert alive({}), "a run of another program"


@pytest.mark.parametrize("name", ["process.host", "process.boot", "process.namespace"])
def test_the_heartbeat_of_a_process_out_of_sight_counts(own: dict[str, str], name: str) -> None:
    """Its id may be that of no process here, or of another."""
    for tags in (own, own | NOBODY):
        silent = str(time.time() - 2 * SILENT_S)
        assert alive(tags | {name: "another"})
        assert not alive(tags | {name: "another", "process.heartbeat": silent})


def test_runs_of_earlier_versions_have_a_host_only(own: dict[str, str]) -> None:
    for tags, expected in ((own, True), (own | NOBODY, False)):
        assert alive({key: tags[key] for key in ("process.host", "process.pid", "process.started")}) is expected


def test_a_run_seen_from_another_container_is_alive(own: dict[str, str]) -> None:
    """A pid namespace of its own, as a container has that shares the host's name and disk."""
    code = "import json, sys\nfrom vitmalis_jobs.common.run_process import alive\nprint(alive(json.load(sys.stdin)))"
    container = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    try:
        subprocess.run([*container, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no pid namespace can be made here")
    command = [*container, sys.executable, "-c", code]
    done = subprocess.run(command, input=json.dumps(own), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
