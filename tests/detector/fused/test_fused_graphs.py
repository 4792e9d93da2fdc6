"""CUDA graphs by the rules of PyTorch's allocator and streams, which a stand-in keeps where there is no GPU."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from vitmalis.detector.fused.graphs import GraphCache

GPU = torch.device("cuda:1")


class Stream:
    """A stream of a device; the first one of each is the current one outside of `FakeGpus.stream`."""

    def __init__(self, device: torch.device | int | None = None) -> None:
        self.device = torch.device(0 if device is None else device)

    def wait_stream(self, _: Stream) -> None:
        """Streams run nothing here, so nothing is waited for."""


class Graph:
    """What was recorded, which does nothing when it is replayed."""

    replays = 0

    def replay(self) -> None:
        self.replays += 1


class FakeGpus:
    """What graphs need of `torch.cuda`, on tensors of the CPU, and three rules of the real one.

    A recording takes what its own stream launches. The first product on a stream allocates a workspace that stays, in a
    recording out of the graph's memory. Memory that no graph uses any more, and of which something is in use, cannot be
    recorded into (`TORCH_INTERNAL_ASSERT(it->second->use_count > 0)` in `CUDACachingAllocator.cpp`).
    """

    def __init__(self) -> None:
        self._next_memory, self.uses, self.kept = 0, Counter[int](), set[int]()
        self.streams, self.recording_into = [Stream(GPU)], None
        self.own_stream, self.workspaces = Stream(), set[Stream]()
        self.recorded: list[Graph] = []

    def graph_pool_handle(self) -> int:
        self._next_memory += 1
        return self._next_memory

    def current_stream(self, _: torch.device) -> Stream:
        return self.streams[-1]

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.streams.append(stream)
        yield
        self.streams.pop()

    @contextlib.contextmanager
    def graph(self, graph: Graph, pool: int, stream: Stream | None = None, capture_error_mode: str = "") -> Iterator:
        if pool in self.kept and not self.uses[pool]:
            raise RuntimeError("use_count > 0 INTERNAL ASSERT FAILED")
        self.uses[pool] += 1
        weakref.finalize(graph, self.uses.subtract, [pool])
        self.recorded.append(weakref.proxy(graph))
        self.recording_into = pool
        with self.stream(stream or self.own_stream):
            yield
        self.recording_into = None

    def multiply(self) -> None:
        """A product, as part of a launch."""
        stream = self.streams[-1]
        if stream not in self.workspaces and self.recording_into is not None:
            self.kept.add(self.recording_into)
        self.workspaces.add(stream)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    fake = FakeGpus()
    for name in ("graph_pool_handle", "current_stream", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    return fake


def launches(gpus: FakeGpus, value: float, streams: list[Stream]) -> Callable[[], list[Tensor]]:
    def launch() -> list[Tensor]:
        gpus.multiply()
        streams.append(gpus.current_stream(GPU))
        return [torch.full((2, 3), value), torch.full((4,), value)]

    return launch


def test_launches_are_recorded_on_one_stream_of_the_cache_s_own_device(gpus: FakeGpus) -> None:
    """On another device's stream a recording would be empty, and every frame would get the boxes of the first one."""
    cache, streams = GraphCache(GPU, 4), []
    for key in ("a", "b", "a"):
        cache.run((key,), launches(gpus, 1, streams))
    assert len(streams) == 4  # each of the two once before its recording and once in it
    assert len(set(streams)) == 1
    assert streams[0].device == GPU
    assert [graph.replays for graph in gpus.recorded] == [2, 1]


def test_graphs_are_recorded_again_after_all_were_dropped(gpus: FakeGpus) -> None:
    """As when a larger batch than before gets larger buffers."""
    cache = GraphCache(GPU, 4)
    for _ in range(2):
        cache.run(("a",), launches(gpus, 1, []))
        gpus.kept |= set(gpus.uses)  # whatever it is that remains in use
        cache.drop(lambda _: True)
    assert len(gpus.uses) == 2
    assert gpus.uses.total() == 0


def test_no_workspace_stays_in_the_memory_of_graphs(gpus: FakeGpus) -> None:
    cache = GraphCache(GPU, 4)
    for key in ("a", "b"):
        cache.run((key,), launches(gpus, 1, []))
    assert not gpus.kept
    assert len(gpus.workspaces) == 1


def test_results_of_all_graphs_are_in_one_place_as_long_as_there_is_one(gpus: FakeGpus) -> None:
    cache, results = GraphCache(GPU, 4), {}
    for key, value in (("a", 1.0), ("b", 2.0)):
        results[key] = cache.run((key,), launches(gpus, value, []))
        assert [part.unique().tolist() for part in results[key]] == [[value], [value]]
    assert [part.data_ptr() for part in results["a"]] == [part.data_ptr() for part in results["b"]]
    places = weakref.WeakSet(results.pop("a"))
    results.clear()
    cache.drop(lambda key: key == ("a",))
    assert len(places) == 2
    cache.drop(lambda _: True)
    assert not places
