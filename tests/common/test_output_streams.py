"""Jobs whose output is cut off or cannot be encoded: they go on to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vitmalis_jobs.common.progress import AS_JSON

SCRIPT = """
import sys
from pathlib import Path
from vitmalis_jobs.common.cli import run_job
from vitmalis_jobs.common.console import Terminal

def job():
    print("first", flush=True)
    sys.stdin.readline()  # until the reader of standard output has gone
    terminal = Terminal()
    for number in range(3):
        print("lost", flush=True)
        terminal.note("lost")
        terminal.table("lost", [{"a": 1}], ["a"])
    print("left in the buffer")
    Path(sys.argv[1]).write_text("done")

sys.exit(run_job(job))
"""


def start(result: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(result)],
        env=os.environ | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cut_off(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Read the first line and close the pipe, as `| head -1` does; returns exit status and standard error."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    errors = process.stderr.read()
    process.stderr.close()
    return process.wait(timeout=60), errors


def test_a_job_goes_on_when_the_reader_of_its_output_goes_away(tmp_path: Path) -> None:
    assert cut_off(start(tmp_path / "result")) == (0, "")
    assert (tmp_path / "result").read_text() == "done"


def test_a_child_job_ends_with_the_parent_that_reads_its_progress(tmp_path: Path) -> None:
    status, _ = cut_off(start(tmp_path / "result", **AS_JSON))
    assert status != 0
    assert not (tmp_path / "result").exists()


def test_any_encoding_of_the_terminal_will_do() -> None:
    code = (
        "import sys; from vitmalis_jobs.common.cli import run_job; from vitmalis_jobs.common.console import Terminal; "
        "from vitmalis.errors import UserError\n"
        "def job():\n"
        "    print('Stra\\u00dfe'); Terminal().header('a', {'clip': 'Stra\\u00dfe'}, {}); raise UserError('\\u00e9')\n"
        "sys.exit(run_job(job))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.count("Stra\\xdfe") == 2
    assert done.stderr == "error: \\xe9\n"
