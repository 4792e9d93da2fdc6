"""The state of a training run: model, moving average, optimisers and counters; saved and restored exactly."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vitmalis.detector.checkpoint import read_torch_file
from vitmalis.paths import atomic_path
from vitmalis.untrusted_files import damage_reported
from vitmalis_jobs.training.detection.run_settings import Settings, check_settings

LAST = "last.pt"
"""Name of the last checkpoint in the folder of a run."""
log = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """Everything that a run needs to continue as if it had never stopped.

    Attributes:
        model: the model that is optimised.
        ema: exponential moving average of its weights, which is evaluated and shipped.
        optimisers: each of its own parameters; see `make_optimisers`.
        step: batches trained on.
        seconds: training time over all starts of the job, without evaluations.
        best: best validation score so far.
        settings: what the run learns with, which no later start may change.
    """

    model: nn.Module
    ema: nn.Module
    optimisers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    settings: Settings = field(default_factory=dict)

    @classmethod
    def fresh(cls, model: nn.Module, learning_rate: float, weight_decay: float, muon: bool = False) -> TrainingState:
        """State at step 0; the arguments are those of `make_optimisers`."""
        ema = copy.deepcopy(model).eval().requires_grad_(False)
        return cls(model, ema, make_optimisers(model, learning_rate, weight_decay, muon))

    def update_average(self, decay: float) -> None:
        """Update the moving average with the model's weights; in the first steps with a smaller decay."""
        keep = min(decay, (1 + self.step) / (10 + self.step))
        get_ema_multi_avg_fn(keep)(list(self.ema.parameters()), list(self.model.parameters()), None)

    def save(self, path: Path) -> None:
        """Write the state to a file that appears whole; `restore` reads it."""
        content = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "settings": self.settings,
        }
        with atomic_path(path) as temporary:
            torch.save(content, temporary)

    def restore_from(self, folder: Path) -> None:
        """Take the state from the last checkpoint in the folder of a run, if there is one; see `restore`."""
        checkpoint = folder / LAST
        if checkpoint.exists():
            self.restore(checkpoint)
            log.info("continuing from step %d (%.2f h)", self.step, self.seconds / 3600)

    def restore(self, path: Path) -> None:
        """Take the state from a file written by `save`.

        Raises:
            UserError: the file is damaged, or of another architecture, or of a run with other settings.
        """
        content = read_torch_file(path)
        with damage_reported(f"checkpoint '{path}'", "it is not of this model: give another train.folder"):
            check_settings(content.get("settings", {}), self.settings, path.parent)
            self.model.load_state_dict(content["model"])
            self.ema.load_state_dict(content["ema"])
            for optimiser, saved in zip(self.optimisers, content["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.step, self.seconds, self.best = int(content["step"]), float(content["seconds"]), float(content["best"])


def make_optimisers(
    model: nn.Module, learning_rate: float, weight_decay: float, muon: bool
) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for all parameters, or Muon for the matrices inside transformer blocks and AdamW for the rest.

    Muon (Jordan et al. 2024) orthogonalises the update of a matrix; its steps are scaled to AdamW's, so that one
    learning rate serves both. Biases, norms and position tables have no weight decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if muon and p.ndim == 2 and ".blocks." in name and "pos" not in name]
    taken = {id(p) for p in matrices}
    rest = [(name, p) for name, p in named if id(p) not in taken]
    decayed = [p for name, p in rest if p.ndim > 1 and "pos" not in name]
    plain = [p for name, p in rest if p.ndim <= 1 or "pos" in name]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    if not matrices:
        return (adamw,)
    return adamw, torch.optim.Muon(
        matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )


def learning_rate_factor(progress: float, warm_up: float, floor: float = 0.01) -> float:
    """Linear warm-up, then a cosine from 1 to `floor`; `progress` and `warm_up` are shares (0..1) of the run."""
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    done = min(1.0, (progress - warm_up) / (1 - warm_up))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
