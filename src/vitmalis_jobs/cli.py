"""The `vitmalis` command: every job by one name, with the options of the job itself."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from vitmalis.command_line import did_you_mean

JOBS = {
    "evaluate": ("evaluation.cli", "play a clip against a real client and server, and score what the user saw"),
    "serve": ("run.serve", "serve a model to clients, again if the server fails"),
    "report": ("evaluation.report", "tables, figures and a page from the runs of one or more sweeps"),
    "demo": ("evaluation.demo", "play a clip under two policies and open a page that compares them"),
    "ui": ("evaluation.ui", "open the MLflow UI on what has been run"),
    "page": ("evaluation.page", "make the page of a run that has none"),
    "compare": ("evaluation.compare", "compare two runs of one clip and trace on a page"),
    "score": ("evaluation.score", "score a run of a camera that was recorded, with references made afterwards"),
    "export": ("evaluation.export.job", "write what a run showed as COCO, MOT, MOTS or Rerun files"),
    "explain": ("evaluation.explain", "draw the decisions of a run"),
    "prune": ("evaluation.prune", "show or delete old runs and caches"),
    "choose configuration": ("evaluation.fixed_configuration", "choose the default of policy=fixed from a sweep"),
    "device export": ("evaluation.device.export", "write the folder that a device plays"),
    "device score": ("evaluation.device.score", "score what a device played"),
    "profile latency": ("profiling.latency.job", "measure latency tables of this machine"),
    "profile samples": ("profiling.samples.job", "sample sizes and accuracies of offloads, for the estimators"),
    "profile inference": ("profiling.inference", "measure inference time over downsampled regions"),
    "profile fused": ("profiling.fused.job", "measure the fused engine on a GPU next to the eager one"),
    "profile restoration-points": ("profiling.restoration_points", "measure time and F1 of every restoration point"),
    "profile token-merging": ("profiling.token_merging", "measure time and F1 of token merging and mixed resolution"),
    "profile precision": ("profiling.precision", "measure what a precision costs in boxes, next to fp32"),
    "profile split-inference": ("profiling.split_inference", "compute the latency of split inference next to JPEGs"),
    "profile tracking": ("profiling.tracking", "measure F1 by age and time of every tracker"),
    "profile filtering": ("profiling.filtering", "learn the threshold of policy=reducto from profile parts"),
    "profile server-table": ("profiling.server_table", "make the table of a measured server from results of a GPU"),
    "train detector": ("training.detector", "train the embedded detector"),
    "train masks": ("training.masks", "train the embedded detector's mask head"),
    "train estimators": ("training.estimators", "train the size and accuracy estimators"),
    "train decay": ("training.decay", "fit the F1 of tracked boxes by age, for policies"),
    "train fetch-street": ("training.fetch_street", "download street frames to train the embedded detector on"),
    "train traces": ("training.traces", "fit the trace generator to measured traces"),
    "train install": ("training.install", "make what was trained the package's own"),
    "train evaluate-detector": ("training.evaluate_detector", "score a detector on its validation set"),
    "validate parity": ("validation.parity.job", "compare the detector with upstream's golden outputs"),
    "validate clock-agreement": ("validation.clock_agreement", "compare the virtual clock with real time"),
    "validate multi-client": ("validation.multi_client", "play several clients against one server"),
    "validate link": ("validation.link", "check the emulated link against its trace and against Mahimahi"),
    "validate fuzz": ("validation.fuzz", "send damaged messages to a server"),
    "validate hostile": ("validation.hostile", "attack a server in every known way while a client is served"),
    "validate reader-fuzz": ("validation.reader_fuzz.job", "feed damaged bytes to every function that reads them"),
    "validate fault-injection": (
        "validation.fault_injection",
        "kill processes of runs, silence their link, fill their disk",
    ),
    "validate soak": ("validation.soak", "play for a long time and watch memory and pacing"),
    "validate full-size": ("validation.full_size", "play 1080p at 30 FPS through the real client"),
    "validate benchmark": ("validation.benchmark", "time the client's stages against their bars"),
    "validate inference-speed": ("validation.inference_speed", "compare inference speed with another checkout"),
    "validate virtual-speed": ("validation.virtual_speed", "measure what a run on the virtual clock costs"),
    "validate library-baselines": ("validation.library_baselines", "compare speed and memory with other libraries"),
}
"""Name of each job on the command line, its module in `vitmalis_jobs`, and what it does."""
_INSTALL = "pip install 'vitmalis[jobs]', or in a checkout `make install`, brings what the jobs need"


def usage() -> str:
    """The list of jobs, as `vitmalis --help` prints it."""
    width = max(map(len, JOBS)) + 2
    rows = [f"  {name:{width}}{about}" for name, (_, about) in JOBS.items()]
    return "\n".join(["usage: vitmalis JOB [OPTIONS ...]    (JOB --help explains its options)", "", *rows])


def main() -> int:
    """Run the job that the first one or two arguments name; returns its exit status, 2 for an unknown job."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    for count in (2, 1):
        name = " ".join(arguments[:count])
        if name in JOBS:
            sys.argv = [f"vitmalis {name}", *arguments[count:]]
            try:
                job = importlib.import_module(f"vitmalis_jobs.{JOBS[name][0]}")
            except ModuleNotFoundError as error:
                if str(error.name).startswith("vitmalis"):
                    raise  # a bug, no installation without an extra
                print(f"error: {sys.executable} has no module '{error.name}': {_INSTALL}", file=sys.stderr)
                return 2
            return int(job.main() or 0)
    print(f"error: {_unknown_job(arguments)}vitmalis --help lists them", file=sys.stderr)
    return 2


def _unknown_job(arguments: Sequence[str]) -> str:
    """The start of the message for arguments that name no job, with the jobs of one group or the most similar one."""
    typed = " ".join(arguments[:2])
    group = [name for name in JOBS if name.startswith(f"{arguments[0]} ")]
    meant = did_you_mean(typed, JOBS, after=" ") or (f"choose one of {', '.join(group)}; " if group else "")
    if not meant:  # the second argument may be what the job is to work on
        typed = arguments[0]
        meant = did_you_mean(typed, JOBS, after=" ")
    return f"there is no job '{typed}': {meant}"
