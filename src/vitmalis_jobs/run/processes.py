"""The processes of a run: server, relay and client; started in order, supervised, always stopped."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from vitmalis.client.record_journal import recover_records
from vitmalis.client.session import SESSION_FILE, ClientSession, write_session
from vitmalis.errors import UserError
from vitmalis.network.traces import Trace
from vitmalis.process import Child
from vitmalis.server.admission import decoder_environment
from vitmalis_jobs.run import mahimahi
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.supervisor import Facts, SupervisedProcess, exit_cause
from vitmalis_jobs.run.trace_file import write_trace

STALL_S = 60.0
"""A client that reports no progress for longer is stopped."""


class ClientFailed(UserError):
    """A client crashed, was killed, or fell silent."""


PlayProgress = Callable[[int, int, int, int], None]
"""Called with frames rendered, frames in all, offloads started, offloads lost."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server or relay that accepts connections.

    Attributes:
        address: tcp://host:port where it listens.
        process: the process that was started here, or None.
        shell: command that the client has to run in to reach it.
    """

    address: str
    process: SupervisedProcess | None = None
    shell: tuple[str, ...] = ()

    @property
    def exits(self) -> list[str]:
        """How the process that was started here exited each time, such as `killed by SIGKILL`."""
        return [] if self.process is None else self.process.exits


@contextmanager
def server(config: EvaluationConfig, directory: Path, more: Sequence[str] = ()) -> Iterator[Endpoint]:
    """A server of the configured model, started with `more` arguments, or the one at the configured address."""
    if not config.server.spawn:
        yield Endpoint(config.server.address)
        return
    model, threads = config.model, config.server.threads
    options = {"model": model.name, "threads": threads, "keys": config.server.keys} | model.detector_options
    pixels = model.max_width * model.max_height
    options["max_megapixels"] = pixels / 1e6
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in options.items()}
    arguments = [f"--{key.replace('_', '-')}={text}" for key, text in texts.items() if options[key] is not None]
    arguments += [f"--decode={config.server.decode}"]
    arguments += ["--compile"] * model.compile + ["--insecure"] * config.server.insecure + [*more]
    arguments += ["--no-restart"]  # exits are counted, and the server is started again, here

    def start(facts: Facts) -> Child:
        at = [f"--address={facts.get('ready', config.server.address)}", *arguments]
        environment = importing_environment(threads) | decoder_environment(pixels)
        return Child("server", "vitmalis.server", at, directory / "logs" / "server.log", environment)

    with SupervisedProcess(start, restart=config.server.restart) as process:
        yield Endpoint(process.facts["ready"], process)


@contextmanager
def relay(
    link: dict[str, Any], upstream: str, trace: Trace, directory: Path, restart: bool = True
) -> Iterator[Endpoint]:
    """The endpoint that the client connects to: a relay that emulates the link, or the server itself."""
    if link["name"] == "none":
        yield Endpoint(upstream)
        return
    if link["name"] == "mahimahi":
        yield Endpoint(mahimahi.inside(upstream), shell=mahimahi.shell(trace, directory))
        return
    arguments = [f"--upstream={upstream}", f"--trace={write_trace(trace, directory)}"]
    arguments += [f"--rtt-ms={float(trace.rtt_ms[0])}"]  # for a Mahimahi file; a CSV has its own
    arguments += [f"--{key.replace('_', '-')}={value}" for key, value in link.items() if key != "name"]

    def start(facts: Facts) -> Child:
        again = [f"--listen={facts['ready']}"] if "ready" in facts else []
        if "trace_origin_s" in facts:  # the network goes on meanwhile
            again += [f"--trace-origin-s={facts['trace_origin_s']}"]
        log = directory / "logs" / "relay.log"
        return Child("relay", "vitmalis.network.emulation", arguments + again, log, _environment(1))

    with SupervisedProcess(start, restart=restart) as process:
        yield Endpoint(process.facts["ready"], process)


def play(
    session: ClientSession,
    threads: int,
    directory: Path,
    progress: PlayProgress,
    shell: Sequence[str] = (),
    more: Sequence[str] = (),
    warn: Callable[[str], None] = lambda _: None,
) -> RunRecords:
    """Run a client with `more` arguments, in a `shell` command if there is one, to its end and read its records.

    `warn` is called with what the client warns of while it plays.

    Records of a client that fails are in its folder, too, up to its last second.

    Raises:
        UserError: it could not start, ended on a user's mistake, or (`ClientFailed`) crashed or fell silent.
    """
    path = directory / SESSION_FILE
    write_session(session, path)
    arguments = [f"--session={path}", f"--threads={threads}", *more]
    log = directory / "logs" / "client.log"
    try:
        with Child("client", "vitmalis.client", arguments, log, importing_environment(threads), shell) as child:
            child.wait_ready()
            mistake = ""
            for report in _reports(child):
                mistake = report.get("error", mistake)
                pass_on(report, progress, warn)
            _check_exit(child, mistake)
    finally:
        with suppress(OSError, UserError):  # it is the client's failure that is reported
            recover_records(Path(session.output_dir))
    return read_records(Path(session.output_dir))


def pass_on(report: Mapping[str, Any], progress: PlayProgress, warn: Callable[[str], None]) -> None:
    """Call what waits for a client's report: its progress, or a warning."""
    if "warning" in report:
        warn(report["warning"])
    if "progress" in report:
        progress(report["progress"], report["frames"], report["offloads"], report["lost"])


def _check_exit(client: Child, mistake: str) -> None:
    """Wait for the end of a client, and raise `UserError` where it failed; `mistake` is what it reported of a user."""
    try:
        code = client.wait(STALL_S)
    except TimeoutExpired:
        raise ClientFailed(f"the client did not end within {STALL_S:g} s (see {client.log})") from None
    if mistake or code == 2:
        raise UserError(f"the client gave up: {mistake or client.last_log_line()}")
    if code < 0:
        raise ClientFailed(f"the client was {exit_cause(code)}; its records end early (see {client.log})")
    if code > 0:
        raise ClientFailed(f"the client ended with status {code}: {client.last_log_line()} (see {client.log})")


def _reports(child: Child) -> Iterator[dict[str, Any]]:
    """The JSON lines a child prints, until it ends or falls silent."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, name=f"{child.name}-output", daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=STALL_S)
        except queue.Empty:
            raise ClientFailed(f"the {child.name} reported nothing for {STALL_S:g} s (see {child.log})") from None
        if line is None:
            return
        if line.startswith("{"):
            yield json.loads(line)


def _environment(threads: int) -> dict[str, str]:
    count = str(threads)
    # With the fault handler even a crash inside a native library leaves its stack in the log.
    return {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "PYTHONFAULTHANDLER": "1"}


def importing_environment(threads: int) -> dict[str, str]:
    """The environment of a server or client, which finds classes of other packages where this process does."""
    return _environment(threads) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
