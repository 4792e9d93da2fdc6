"""Load test of one server with several clients: `python -m validation.multi_client`.

Each client is a process with an uplink of its own (another trace of the group each); all play the same clip against one
server. One MLflow run for each number of clients records what each client saw; a table, a figure and
`multi_client.json` compare them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.client.session import ClientSession
from vitmalis.command_line import CommandLine
from vitmalis.errors import UserError
from vitmalis.metrics import summarise
from vitmalis.network.traces.generate import TRACES_EACH
from vitmalis.types import Detections
from vitmalis_jobs.common.arguments import add_overrides
from vitmalis_jobs.common.checks import check_trained
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Step, Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import BUSY, LoadMeter
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.common.plotting import canvas, colour, save_figure
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.checks import prepare_checked
from vitmalis_jobs.run.config import EvaluationConfig, composed, flat
from vitmalis_jobs.run.describe import stand_ins
from vitmalis_jobs.run.execute import find_references
from vitmalis_jobs.run.processes import PlayProgress
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.resolve import chosen, resolve_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun

METRICS = (
    "rendering_f1",
    "e2e_latency_s_median",
    "e2e_latency_s_p90",
    "queue_s_median",
    "offloads",
    "lost_offloads",
    "lost_frames",
)
"""Metrics of each client in the result."""


def client_runs(clients: int, config: EvaluationConfig, terminal: Terminal) -> list[PreparedRun]:
    """The run of each client: the same except for its trace.

    Raises:
        UserError: the configuration is not one of several clients in real time.
    """
    config = chosen(config)
    if config.virtual:
        raise UserError("clock=virtual has no server process: leave it out, or evaluate with devices.count=4")
    if config.video["name"] == "camera":
        raise UserError("video=camera: clients are compared by F1, which a live source has not: give a clip")
    check_trained(config.model, "clients are compared by F1")
    prepared_runs = []
    for number in range(clients):
        own = config
        if "index" in config.trace:
            index = (config.trace["index"] + number) % TRACES_EACH
            own = msgspec.structs.replace(config, trace=config.trace | {"index": index})
        prepared_runs.append(prepare_checked(resolve_run(own), terminal))
    return prepared_runs


def play_all(
    prepared_runs: Sequence[PreparedRun], max_batch: int, references: list[Detections], folder: Path, step: Step
) -> list[dict[str, float]]:
    """Let all clients play at the same time against one server; returns the metrics of each.

    Args:
        prepared_runs: run of each client.
        max_batch: largest batch of the server.
        references: to score each client with.
        folder: gets a folder for each client.
        step: called with the progress of the first client.

    Raises:
        UserError: the server or a client ended too early.
    """
    config = prepared_runs[0].config
    with ExitStack() as stack:
        server = stack.enter_context(processes.server(config, folder, [f"--max-batch={max_batch}"]))
        sessions: list[tuple[ClientSession, Path, PlayProgress]] = []
        for number, prepared in enumerate(prepared_runs):
            own = folder / str(number)
            own.mkdir(parents=True, exist_ok=True)
            link = stack.enter_context(processes.relay(config.link, server.address, prepared.spec.trace, own))
            session = prepared.session(link.address, own)
            sessions.append((session, own, (lambda *_: None) if number else lambda done, total, *_: step(done, total)))

        def play(client: tuple[ClientSession, Path, PlayProgress]) -> RunRecords:
            session, own, progress = client
            return processes.play(session, config.client.threads, own, progress)

        with ThreadPoolExecutor(len(prepared_runs)) as pool:  # each thread only waits for its process
            played = list(pool.map(play, sessions))
        if server.exits:
            raise UserError(f"the server ended during the run ({server.exits[-1]}); see {folder / 'logs'}")
    return [
        summarise(each.frames, each.offloads, references, prepared.spec.rule, prepared.clip.size)
        for prepared, each in zip(prepared_runs, played, strict=True)
    ]


def measure(
    counts: Sequence[int], batches: Sequence[int], overrides: Sequence[str], folder: Path, terminal: Terminal
) -> list[dict[str, Any]]:
    """Play with each number of clients and each largest batch; returns a row for each client.

    Raises:
        UserError: a number is below 1, the configuration is not one of several clients, or there are no references.
    """
    if min(*counts, *batches) < 1:
        raise UserError(f"--clients {counts} and --max-batch {batches}: numbers must be at least 1")
    config = composed(overrides)
    if not config.server.spawn and list(batches) != [1]:
        raise UserError(f"--max-batch {batches}: the server at {config.server.address} was started with its own")
    prepared_runs = client_runs(max(counts), config, terminal)
    config, rows = prepared_runs[0].config, []
    resources = Resources()
    store = resources.store(config.mlflow)
    for count in counts:
        for max_batch in batches:
            tags = {"load.clients": str(count), "load.max_batch": str(max_batch), "policy": config.policy_name}
            tags |= {f"stand_in.{name}": text for name, text in stand_ins(prepared_runs[0]).items()}
            with store.run(f"load-{count}-clients-batch-{max_batch}", tags) as run:
                run.log_params(flat(config))
                references = find_references(prepared_runs[0], resources, terminal, run.tag)
                if references is None:  # refused by `client_runs`
                    raise RuntimeError("no references")
                own = folder / f"{count}x{max_batch}"
                meter = LoadMeter()
                with terminal.progress(f"{count} clients, batches of at most {max_batch}") as step:
                    seen = play_all(prepared_runs[:count], max_batch, references, own, step)
                if reasons := meter.load().reasons:
                    run.tag({BUSY: "; ".join(reasons)})
                rows += log_clients(run, seen, count, max_batch)
    return rows


def log_clients(run: Run, seen: Sequence[dict[str, float]], clients: int, max_batch: int) -> list[dict[str, Any]]:
    """Log the metrics of each client, and how unequal they are; returns a row for each."""
    rows = []
    for number, metrics in enumerate(seen):
        run.log_metrics({f"client_{number}/{name}": value for name, value in metrics.items()})
        shown = {name: metrics[name] for name in METRICS if name in metrics}
        rows.append({"clients": clients, "max_batch": max_batch, "client": number, **shown})
    overall = {"load/e2e_ratio": ratio(rows), "rendering_f1": median(rows, "rendering_f1")}
    run.log_metrics({name: value for name, value in overall.items() if value is not None})
    return rows


def median(rows: Sequence[dict[str, Any]], name: str, factor: float = 1.0) -> float | None:
    """Median of a metric over the clients that have it; None where none has, as F1 where nothing is to be found."""
    known = [row[name] for row in rows if name in row]
    return factor * statistics.median(known) if known else None


def ratio(rows: Sequence[dict[str, Any]]) -> float | None:
    """Largest median E2E latency over the smallest; None where no client got an answer."""
    medians = [row["e2e_latency_s_median"] for row in rows if "e2e_latency_s_median" in row]
    return max(medians) / min(medians) if medians else None


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each number of clients and largest batch: medians over clients, and how unequal they are."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["clients"], row["max_batch"]), []).append(row)
    return [
        {
            "clients": clients,
            "max_batch": max_batch,
            "rendering_f1": median(group, "rendering_f1"),
            "e2e_ms": median(group, "e2e_latency_s_median", 1e3),
            "e2e_ratio": ratio(group),
            "offloads": sum(row["offloads"] for row in group),
            "lost": sum(row["lost_offloads"] for row in group),
            "lost_frames": sum(row["lost_frames"] for row in group),
        }
        for (clients, max_batch), group in groups.items()
    ]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw E2E latency and rendering F1 of each client over their number."""
    figure, panels = canvas("several clients on one server", columns=2)
    batches = sorted({row["max_batch"] for row in rows})
    plots = (("e2e_latency_s_median", 1e3, "median E2E latency, ms"), ("rendering_f1", 1.0, "rendering F1"))
    for axes, (name, scale, label) in zip(panels, plots, strict=True):
        for position, max_batch in enumerate(batches):
            shown = [row for row in rows if row["max_batch"] == max_batch and name in row]
            counts, values = [row["clients"] for row in shown], [scale * row[name] for row in shown]
            axes.plot(counts, values, "o", color=colour(position), alpha=0.6, label=f"batches of at most {max_batch}")
        axes.set(xlabel="clients", ylabel=label, ylim=(0, None))
        axes.legend()
    save_figure(figure, path)


def whole_numbers(text: str) -> list[int]:
    """Parse whole numbers separated by commas.

    Raises:
        UserError: one is no whole number.
    """
    try:
        return [int(each) for each in text.split(",")]
    except ValueError as error:
        raise UserError(f"--clients and --max-batch are whole numbers with commas between them ({error})") from error


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.multi_client",
        "Play several clients against one server and compare what each of them gets.",
        {
            "": "1, 2, 4 and 8 clients",
            "--clients 2,4 --max-batch 1,4 policy=vitmalis eval.seconds=20": "batches of one and of up to four frames",
        },
    )
    parser.add_argument("--clients", default="1,2,4,8", help="numbers of clients, with commas between them")
    parser.add_argument(
        "--max-batch", default="1", help="most frames in a batch of the server, such as 1,4 to compare two settings"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/multi_client"), help="folder of records and result")
    add_overrides(parser)
    return parser


def compare(options: argparse.Namespace) -> None:
    """Measure, draw, print and store."""
    terminal, meter = Terminal.on_stderr(), LoadMeter()
    counts, batches = whole_numbers(options.clients), whole_numbers(options.max_batch)
    rows = measure(counts, batches, options.overrides, options.folder, terminal)
    medians = summary(rows)
    title = "medians over clients; ratio: the slowest client's median E2E over the fastest one's"
    terminal.table(title, medians, list(medians[0]))
    draw(rows, options.folder / "multi_client.png")
    terminal.note(f"plot: {options.folder / 'multi_client.png'}")
    emit({"clients": rows, "summary": medians}, options.folder / "multi_client.json", meter.load())


main = option_job(command_line, compare)


if __name__ == "__main__":
    sys.exit(main())
