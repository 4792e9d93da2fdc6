"""What is made of a run's records: plots, a film, and their place in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from evaluation import plots
from evaluation.decision_picture import draw_decision, draw_regions, most_varied
from evaluation.plan import Plan, model_geometry
from evaluation.processes import Played
from evaluation.rendering import Film, save_png
from evaluation.store import Run
from evaluation.terminal import Step, Terminal
from vitmalis.metrics import f1_over_time
from vitmalis.records import DECISIONS_FILE, FRAMES_FILE, OFFLOADS_FILE
from vitmalis.types import Detections, RgbImage
from vitmalis.video.spec import VideoSpec, open_video

FILM_FILE, STILL_FILE = "rendered.mp4", "rendered.png"
REGIONS_FILE, DECISION_FILE = "regions.png", "decision.png"


def report(
    plan: Plan,
    played: Played,
    references: list[Detections] | None,
    run: Run,
    directory: Path,
    terminal: Terminal,
) -> None:
    """Plots, film and records, beside each other in the run's folder and as MLflow artifacts."""
    title = f"{plan.clip.name}, {plan.trace_name}, {plan.config.policy_name}"
    made = [directory / FRAMES_FILE, directory / OFFLOADS_FILE, directory / "latency.png"]
    plots.latency_breakdown(directory / "latency.png", played.offloads, f"{title}: where the latency goes")
    if references is not None:
        time_s, f1 = f1_over_time(played.frames, references, 1.0, plan.rule)
        run.log_curve("rendering_f1_per_s", [round(t) for t in time_s], [float(v) for v in f1])
        path = directory / "rendering_f1.png"
        plots.rendering_f1(path, played.frames, references, f"{title}: what the user saw", plan.rule)
        made += [path, *_film(plan, played, references, directory, terminal)]
    for path in [*made, *_decisions(plan, played, references, directory)]:
        run.log_artifact(path)


def _decisions(plan: Plan, played: Played, references: Sequence[Detections] | None, directory: Path) -> list[Path]:
    """Records of explained decisions, and pictures of a telling one; live frames are gone and cannot be drawn."""
    shown = most_varied(played.decisions, played.offloads)
    if not played.decisions:
        return []
    if shown is None or plan.clip.live:
        return [directory / DECISIONS_FILE]
    grid = model_geometry(plan.config.model).grid(plan.clip.width, plan.clip.height)
    offload = next(offload for offload in played.offloads if offload.offload_id == shown.offload_id)
    image = next(_images(plan.clip, shown.frame_index, 1))
    reference = None if references is None else references[shown.frame_index]
    regions, decision = directory / REGIONS_FILE, directory / DECISION_FILE
    save_png(regions, draw_regions(image, grid, shown))
    draw_decision(decision, image, grid, shown, offload, reference, plan.rule)
    return [directory / DECISIONS_FILE, regions, decision]


def _film(
    plan: Plan, played: Played, references: Sequence[Detections], directory: Path, terminal: Terminal
) -> list[Path]:
    film = Film(played.frames, played.offloads, references, plan.clip.fps, plan.rule)
    still = film.typical()
    wanted = min(len(played.frames), round(plan.config.output.film_seconds * plan.clip.fps))
    film_path, still_path = directory / FILM_FILE, directory / STILL_FILE
    with terminal.progress("film of the rendered boxes") as step:
        save_png(still_path, film.draw(still, next(_images(plan.clip, still, 1))))
        if wanted:
            film.write(film_path, _counted(_images(plan.clip, 0, wanted), wanted, step))
    return [still_path, film_path] if wanted else [still_path]


def _images(clip: VideoSpec, first: int, count: int) -> Iterator[RgbImage]:
    """Pictures of the played part, from its frame `first`."""
    return open_video(msgspec.structs.replace(clip, start_frame=clip.start_frame + first, frames=count))


def _counted(images: Iterator[RgbImage], total: int, step: Step) -> Iterator[RgbImage]:
    for done, image in enumerate(images, 1):
        yield image
        step(done, total)
