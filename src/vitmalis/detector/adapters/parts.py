"""The description of a library's model that every adapter gives, and checks that no part of it is overlooked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vitmalis.errors import UserError

Foreign = Any
"""A module of another library, whose parts are known by name only."""


def unchanged(tokens: Tensor) -> Tensor:
    """Return the tokens unchanged."""
    return tokens


def no_prefix() -> Tensor | None:
    """The prefix of a model without class token: none."""
    return None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a library's vision transformer.

    Attributes:
        project: the convolution that makes a token of each patch.
        blocks: the library's own blocks.
        attention: the name that these have for their attention.
        run: lets one block map tokens (B, rows, cols, C) as the library does.
        positions: absolute positions (rows, cols, C) of a grid of tokens; None where the model has none.
        prefix: tokens (1, P, C) before those of patches, with their positions; None where there are none.
        after_project: applied to the tokens of patches (..., C) before positions are added.
        before_blocks: applied to tokens (..., C) after positions are added.
        after_blocks: applied to the tokens of patches (..., C) in the end.

    Raises:
        UserError: patches are not square and side by side.
    """

    project: nn.Conv2d
    blocks: list[Foreign]
    run: Callable[[Foreign, Tensor], Tensor]
    positions: Callable[[int, int], Tensor | None]
    attention: str = "attn"
    prefix: Callable[[], Tensor | None] = no_prefix
    after_project: Callable[[Tensor], Tensor] = unchanged
    before_blocks: Callable[[Tensor], Tensor] = unchanged
    after_blocks: Callable[[Tensor], Tensor] = unchanged

    def __post_init__(self) -> None:
        conv, side = self.project, self.patch_px
        if (conv.kernel_size, conv.stride, conv.padding) != ((side, side), (side, side), (0, 0)):
            raise UserError(
                f"patches are projected by a convolution of {conv.kernel_size} with stride {conv.stride} and padding "
                f"{conv.padding}; mixed resolution needs square patches side by side"
            )

    @property
    def patch_px(self) -> int:
        """Side of a patch in pixels."""
        return self.project.kernel_size[0]


def check_members(module: nn.Module, where: str, needed: Iterable[str], known: Iterable[str] = ()) -> None:
    """Check that an adapter knows all parts of a module; an overlooked part would change features silently.

    Dropout does nothing in inference, so it needs no name.

    Args:
        module: the module to check.
        where: name of the module in the message.
        needed: parts (modules or parameters) that it must have.
        known: further parts that it may have.

    Raises:
        UserError: a part is missing, or there is one without a rule.
    """
    has = {**dict(module.named_children()), **dict(module.named_parameters(recurse=False))}
    for name in needed:
        if name not in has:
            raise UserError(f"{where} ({type(module).__name__}) has no '{name}': it cannot be wrapped")
    for name, part in has.items():
        if name not in {*needed, *known} and not isinstance(part, nn.Identity | nn.Dropout):
            raise UserError(
                f"{where} ({type(module).__name__}) has '{name}' ({type(part).__name__}), for which mixed resolution "
                "has no rule: it cannot be wrapped"
            )
