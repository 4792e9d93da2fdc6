"""Weights come back as they were, and a file can do nothing but hold them."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitmalis.detector.build import build_model
from vitmalis.detector.checkpoint import load_checkpoint, load_into, save_checkpoint
from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig, preset
from vitmalis.errors import UserError

SMALL = DetectorConfig(
    name="small",
    vit=VitConfig(embed_dim=16, depth=4, num_heads=2, window=3, relative_grid=8),
    pyramid=PyramidConfig(channels=8),
    head=RcnnConfig(box_convs=(8, 8, 8, 8), box_width=16),
    classes=(0, 2),
)


def random_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


def test_half_precision_round_trip(tmp_path: Path) -> None:
    model = build_model(preset("vitdet_tiny"))
    load_into(model, random_state(model), "random")
    path = tmp_path / "weights" / "tiny.pt"
    save_checkpoint(model, path, {"seed": 7, "f1": 0.5})
    state, metadata = load_checkpoint(path)
    assert metadata == {"seed": 7, "f1": 0.5}
    assert path.stat().st_size < 12e6
    for name, value in model.state_dict().items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], value.half().float())


def test_published_layout_loads_without_the_mask_branch(tmp_path: Path) -> None:
    model = build_model(SMALL)
    state = random_state(model)
    arrays: dict[str, Any] = OrderedDict((name, value.numpy()) for name, value in state.items())
    arrays["roi_heads.mask_head.deconv.weight"] = np.zeros((8, 8, 2, 2), np.float32)
    arrays["pixel_mean"] = np.zeros((3, 1, 1), np.float32)
    for protocol in (2, 4):
        path = tmp_path / f"model_{protocol}.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2"}, protocol))
        load_into(model, load_checkpoint(path)[0], str(path))
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_hostile_pickle_is_refused_before_it_acts(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    hostile = pickle.dumps({"model": Hostile(f"touch {proof}")})
    pickle.loads(hostile)
    assert proof.exists()  # it does bite those who trust it
    proof.unlink()
    for name in ("evil.pkl", "evil.pt"):
        path = tmp_path / name
        path.write_bytes(hostile)
        with pytest.raises(UserError, match=r"evil\.p.* refused"):
            load_checkpoint(path)
        assert not proof.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"model": {"a": np.array([{}], object)}},
        {"model": {"a": "text"}},
        {"model": {"a": [1.0]}},
        {"model": {}},
        [1, 2],
        np.float64(3.0),
        {"model": Path("x")},
    ],
)
def test_anything_but_arrays_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"model\.pkl"):
        load_checkpoint(path)


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    whole = pickle.dumps({"model": {"a": np.zeros(100, np.float32)}})
    for name, data in (("cut.pkl", whole[:-30]), ("empty.pkl", b""), ("text.pt", b"hello"), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=rf"{name}.* refused"):
            load_checkpoint(tmp_path / name)
    with pytest.raises(UserError, match=r"none\.pt' do not exist.*model\.weights="):
        load_checkpoint(tmp_path / "none.pt")


def test_weights_that_are_not_finite_are_refused() -> None:
    model = build_model(SMALL)
    state = random_state(model)
    state["backbone.net.pos_embed"].view(-1)[3] = torch.nan
    with pytest.raises(UserError, match=r"bad\.pt.*1 with values that are not finite \(backbone\.net\.pos_embed\)"):
        load_into(model, state, "bad.pt")


def test_weights_that_do_not_fit_name_the_first_few() -> None:
    model = build_model(SMALL)
    state = random_state(model)
    state["extra.one"] = state.pop("backbone.net.pos_embed")
    state["roi_heads.box_predictor.cls_score.bias"] = torch.zeros(9)
    with pytest.raises(UserError) as caught:
        load_into(model, state, "other.pt")
    message = str(caught.value)
    assert "other.pt" in message
    assert "1 missing (backbone.net.pos_embed)" in message
    assert "1 not in the model (extra.one)" in message
    assert "1 of another shape (roi_heads.box_predictor.cls_score.bias)" in message
    assert "\n" not in message


def test_loading_keeps_the_parameters_an_optimiser_holds() -> None:
    model = build_model(SMALL)
    before = dict(model.named_parameters())
    load_into(model, random_state(model), "random")
    assert all(before[name] is value for name, value in model.named_parameters())


@pytest.mark.parametrize(("prefix", "wrapper"), [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")])
def test_weights_saved_from_a_wrapper_say_so(prefix: str, wrapper: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    wrapped = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=f"every name begins with '{prefix}', as {wrapper} adds it"):
        load_into(model, wrapped, "w.pt")
