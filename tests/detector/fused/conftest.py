"""Where the fast path's tests run: on a GPU if there is one, else in Triton's interpreter."""

import dataclasses
import inspect
from collections.abc import Callable

import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def mended_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mend two faults of Triton 3.8's interpreter, and leave out what takes half of its time, checks for overflow.

    It adapts the language again for every call of a device function and takes nothing of that back, so every call makes
    all later ones slower. And it multiplies the bits of bfloat16 numbers, which NumPy lacks, as integers.
    """
    builder = interpreter.interpreter_builder
    adapt, dot = interpreter._patch_lang, builder.create_dot

    def adapt_once(function: Callable) -> object:
        modules = [value for value in function.__globals__.values() if inspect.ismodule(value)]
        fresh = any(tl.core.is_builtin(module.load) for module in modules if module in (tl, tl.core))
        return adapt(function) if fresh else interpreter._LangPatchScope()

    def widened(operand: interpreter.TensorHandle) -> interpreter.TensorHandle:
        return builder.cast_impl(operand, tl.float32) if operand.dtype.scalar == tl.bfloat16 else operand

    monkeypatch.setattr(interpreter, "_patch_lang", adapt_once)
    monkeypatch.setattr(builder, "create_dot", lambda a, b, *rest: dot(widened(a), widened(b), *rest))
    monkeypatch.setattr(builder, "options", dataclasses.replace(builder.options, sanitize_overflow=False))
