"""CUDA graphs of functions that only launch kernels on static buffers, a bounded number of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from weakref import WeakValueDictionary

import torch
from torch import Tensor

Key = tuple[Hashable, ...]
Launch = Callable[[], list[Tensor]]
"""Queues kernels and returns where their results will be."""


class GraphCache:
    """Replays a function's launches as a CUDA graph from its second run on; on other devices it runs the function.

    A graph repeats the same launches on the same memory, so a function must read its inputs from static buffers and
    wait for nothing. Graphs are replayed one after the other on one stream and share their memory; the results of a run
    hold until the next one.

    Args:
        device: where the functions compute.
        capacity: most graphs; the least recently used one is dropped.
    """

    def __init__(self, device: torch.device, capacity: int) -> None:
        self._capacity = capacity
        self._replays: OrderedDict[Key, Launch] = OrderedDict()
        self._recorder = Recorder(device) if device.type == "cuda" else None

    def __len__(self) -> int:
        return len(self._replays)

    def __contains__(self, key: Key) -> bool:
        return key in self._replays

    @property
    def room(self) -> int:
        """How many more functions there may be before one is dropped."""
        return self._capacity - len(self._replays)

    def run(self, key: Key, launch: Launch) -> list[Tensor]:
        """Run a function the first time, and replay it later.

        Args:
            key: what the launches depend on besides the contents of static buffers.
            launch: see `Launch`.
        """
        if key in self._replays:
            self._replays.move_to_end(key)
        else:
            self._replays[key] = launch if self._recorder is None else self._recorder.record(launch)
            if len(self._replays) > self._capacity:
                self._replays.popitem(last=False)
        return self._replays[key]()

    def drop(self, stale: Callable[[Key], bool]) -> None:
        """Drop the functions with such keys, before the buffers that they refer to are freed."""
        for key in [key for key in self._replays if stale(key)]:
            del self._replays[key]
        if self._recorder is not None and not self._replays:
            self._recorder.forget_memory()


class Recorder:
    """Makes CUDA graphs on a stream of its own; what they compute with is memory that all share.

    Kernels are compiled, and libraries choose theirs and allocate their workspace for a stream, in a run before the
    recording on the same stream. On PyTorch's own stream for recordings the workspace would be part of the graphs'
    memory and keep it for ever, and that stream belongs to whichever device was the current one first.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._memory = torch.cuda.graph_pool_handle()
        self._results: WeakValueDictionary[Hashable, Tensor] = WeakValueDictionary()

    def record(self, launch: Launch) -> Launch:
        """Run a function once, record its launches, and return what replays them.

        Results of equal shape of all graphs are in the same place, outside of the graphs' memory. In it, every graph
        would have to hold its own: 90 MB for the levels that a mask head reads in a frame of 1920x1080.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            places = [self._place(index, result) for index, result in enumerate(launch())]
        current.wait_stream(self._stream)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        # Other threads of a server may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"):
            _copy(launch(), places)

        def replay() -> list[Tensor]:
            graph.replay()
            return places

        return replay

    def forget_memory(self) -> None:
        """Have the next graph take other memory; to be called once no graph is left.

        PyTorch refuses to record into memory that no graph uses any more, as long as anything in it is in use.
        """
        self._memory = torch.cuda.graph_pool_handle()

    def _place(self, index: int, result: Tensor) -> Tensor:
        """Where the result with this number goes, for as long as a graph has such a result."""
        key = index, tuple(result.shape), result.dtype
        place = self._results.get(key)
        if place is None:
            place = self._results[key] = torch.empty_like(result)
        return place


def _copy(results: Sequence[Tensor], places: Sequence[Tensor]) -> None:
    for result, place in zip(results, places, strict=True):
        place.copy_(result)
