"""Weights come back as they were, and a file can do nothing but hold them."""

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
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


def rewritten(path: Path, entries: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Write a PyTorch file again with other content in its entries."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(name, entries(name, data))


def test_a_pytorch_file_that_unfolds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(1_000_000)}, path)
    rewritten(path, lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match=r"bomb\.pt' are refused"):
        load_checkpoint(path)


def test_a_storage_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lies.pt"
    torch.save({"a": torch.zeros(77)}, path)

    def longer(name: str, data: bytes) -> bytes:
        return data.replace(b"K\x4d", b"M\xff\xff") if name.endswith("data.pkl") else data

    rewritten(path, longer)
    with pytest.raises(UserError, match=r"lies\.pt' are refused"):
        load_checkpoint(path)


def test_tensors_far_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(1, dtype=torch.float16)
    for name, state in {
        "expanded.pt": {"a": one.expand(10**12)},
        "shared.pt": {str(number): one.expand(100_000) for number in range(100)},
    }.items():
        torch.save(state, tmp_path / name)
        with pytest.raises(UserError, match="far larger than the file"):
            load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, device="meta"),
        {"b": torch.zeros(2)},
        None,
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path: Path, value: object) -> None:
    torch.save({"a": value}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt.*('a' is no tensor of numbers| refused)"):
        load_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [{1: torch.zeros(2)}, {"a": torch.zeros(2), None: torch.zeros(2)}])
def test_names_that_are_no_text_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="is no name of a tensor"):
        load_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("metadata", ["{", "[1]", "[" * 100_000, "7"])
def test_damaged_metadata_are_a_user_error(tmp_path: Path, metadata: str) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "metadata": metadata}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt' are damaged: their metadata are no JSON object"):
        load_checkpoint(tmp_path / "w.pt")


def test_a_safetensors_file_is_refused_whatever_its_header_says(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(UserError, match=r"w\.safetensors' are refused: not a PyTorch file"):
        load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_in_a_pytorch_file_is_a_user_error(tmp_path: Path) -> None:
    path, random = tmp_path / "w.pt", np.random.default_rng(0)
    save_checkpoint(nn.Linear(4, 4), path, {"seed": 7})
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged[: random.integers(1, len(whole) + 1)] if random.random() < 0.3 else damaged)
        with suppress(UserError):
            load_checkpoint(path)


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
