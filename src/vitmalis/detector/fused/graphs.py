"""CUDA graphs of functions that only launch kernels on static buffers, a bounded number of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch

Key = tuple[Hashable, ...]
Launch = Callable[[], Any]
"""Queues kernels and returns where their result will be: a tensor, or several."""
Result = TypeVar("Result")


class GraphCache:
    """Replays a function's launches as a CUDA graph from its second run on; on other devices it runs the function.

    A graph repeats the same launches on the same memory, so a function must read its inputs from static buffers and
    wait for nothing. Graphs are replayed one after the other on one stream and share their memory; the result of a run
    holds until the next one.

    Args:
        device: where the functions compute.
        capacity: most graphs; the least recently used one is dropped.
    """

    def __init__(self, device: torch.device, capacity: int) -> None:
        self._device, self._capacity = device, capacity
        self._replays: OrderedDict[Key, Launch] = OrderedDict()
        self._memory = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._replays)

    def run(self, key: Key, launch: Callable[[], Result]) -> Result:
        """Run a function the first time, and replay it later.

        Args:
            key: what the launches depend on besides the contents of static buffers.
            launch: see `Launch`.
        """
        if key in self._replays:
            self._replays.move_to_end(key)
        else:
            self._replays[key] = launch if self._memory is None else self._captured(launch)
            if len(self._replays) > self._capacity:
                self._replays.popitem(last=False)
        result: Result = self._replays[key]()
        return result

    def drop(self, stale: Callable[[Key], bool]) -> None:
        """Drop the functions with such keys, before the buffers that they refer to are freed."""
        for key in [key for key in self._replays if stale(key)]:
            del self._replays[key]

    def _captured(self, launch: Launch) -> Launch:
        """Capture a function after one run of it, in which kernels are compiled and libraries choose theirs."""
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            launch()
        torch.cuda.current_stream(self._device).wait_stream(side)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads of a server may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
            result = launch()

        def replay() -> Any:
            graph.replay()
            return result

        return replay
