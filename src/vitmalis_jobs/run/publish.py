"""What is made of a run's records: plots, a film, and their place in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from vitmalis.metrics import f1_over_time
from vitmalis.records import DECISIONS_FILE, FRAMES_FILE, OFFLOADS_FILE
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.console import Step, Terminal
from vitmalis_jobs.common.mlflow_store import Run
from vitmalis_jobs.run.figures import plots
from vitmalis_jobs.run.figures.comparison_video import ComparisonVideo, save_png
from vitmalis_jobs.run.figures.decision_plot import draw_decision, draw_regions, most_varied
from vitmalis_jobs.run.processes import Played
from vitmalis_jobs.run.spec import RunSpec, model_geometry

FILM_FILE, STILL_FILE = "rendered.mp4", "rendered.png"
REGIONS_FILE, DECISION_FILE = "regions.png", "decision.png"


def report(
    plan: RunSpec,
    played: Played,
    references: list[Detections] | None,
    run: Run,
    directory: Path,
    terminal: Terminal,
) -> None:
    """Records, plots and film, beside each other in the run's folder and as MLflow artifacts."""
    made = [directory / FRAMES_FILE, directory / OFFLOADS_FILE]
    if played.decisions:
        made.append(directory / DECISIONS_FILE)
    if references is not None:
        time_s, f1 = f1_over_time(played.frames, references, 1.0, plan.rule)
        run.log_curve("rendering_f1_per_s", [round(t) for t in time_s], [float(v) for v in f1])
        made += _film(plan, played, references, directory, terminal)
    if plan.config.output.pictures:
        made += [*_plots(plan, played, references, directory), *_decision(plan, played, references, directory)]
    for path in made:
        run.log_artifact(path)


def _plots(plan: RunSpec, played: Played, references: Sequence[Detections] | None, directory: Path) -> list[Path]:
    title = f"{plan.clip.name}, {plan.trace_name}, {plan.config.policy_name}"
    latency, f1 = directory / "latency.png", directory / "rendering_f1.png"
    plots.latency_breakdown(latency, played.offloads, f"{title}: where the latency goes")
    if references is None:
        return [latency]
    plots.rendering_f1(f1, played.frames, references, f"{title}: what the user saw", plan.rule)
    return [latency, f1]


def _decision(plan: RunSpec, played: Played, references: Sequence[Detections] | None, directory: Path) -> list[Path]:
    """Pictures of a telling decision, where one was explained; live frames are gone and cannot be drawn."""
    shown = most_varied(played.decisions, played.offloads)
    if shown is None or plan.clip.live:
        return []
    grid = model_geometry(plan.config.model).grid(plan.clip.width, plan.clip.height)
    offload = next(offload for offload in played.offloads if offload.offload_id == shown.offload_id)
    image = next(_images(plan.clip, shown.frame_index, 1))
    reference = None if references is None else references[shown.frame_index]
    regions, decision = directory / REGIONS_FILE, directory / DECISION_FILE
    save_png(regions, draw_regions(image, grid, shown))
    draw_decision(decision, image, grid, shown, offload, reference, plan.rule)
    return [regions, decision]


def _film(
    plan: RunSpec, played: Played, references: Sequence[Detections], directory: Path, terminal: Terminal
) -> list[Path]:
    """The film, and a still of a typical frame, as far as they are wanted."""
    options, made = plan.config.output, []
    wanted = min(len(played.frames), round(options.film_seconds * plan.clip.fps))
    if not (wanted or options.pictures):
        return []
    film = ComparisonVideo(played.frames, played.offloads, references, plan.clip.fps, plan.rule)
    with terminal.progress("film of the rendered boxes") as step:
        if options.pictures:
            still = film.typical()
            made.append(directory / STILL_FILE)
            save_png(made[-1], film.draw(still, next(_images(plan.clip, still, 1))))
        if wanted:
            made.append(directory / FILM_FILE)
            film.write(made[-1], _counted(_images(plan.clip, 0, wanted), wanted, step))
    return made


def _images(clip: VideoSpec, first: int, count: int) -> Iterator[RgbImage]:
    """Pictures of the played part, from its frame `first`."""
    return open_video(msgspec.structs.replace(clip, start_frame=clip.start_frame + first, frames=count))


def _counted(images: Iterator[RgbImage], total: int, step: Step) -> Iterator[RgbImage]:
    for done, image in enumerate(images, 1):
        yield image
        step(done, total)
