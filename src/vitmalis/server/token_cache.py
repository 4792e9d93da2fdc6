"""The server's token cache: tokens of each client's last offloads, for the cached regions of its next one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import UNSET

from vitmalis.errors import UserError
from vitmalis.network.wire.caching import NO_BASE
from vitmalis.network.wire.messages import Offload
from vitmalis.regions.grid import ModelGeometry
from vitmalis.regions.treatment import AnyTreatments
from vitmalis.server.decoding import DecodedFrame, DetectorLike, infer
from vitmalis.types import Detections

if TYPE_CHECKING:
    from vitmalis.detector.cached_tokens import CachedTokens
    from vitmalis.server.decoding import Pixels

MAX_BYTES = 256 * 1024 * 1024
"""Most memory for all clients: a frame takes 1.3 MB with `vitdet_tiny` at 540p, 33 MB with `vitdet_l` at 1080p."""
FRAMES_PER_CLIENT = 2
"""Frames of one client that are kept: with two offloads in flight, the next one names the last that was answered."""


@runtime_checkable
class CachingDetector(Protocol):
    """A detector whose tokens can be cached, see `Detector.detect_cached`."""

    @property
    def caches_tokens(self) -> bool:
        """Whether this model's can."""

    def detect_cached(
        self,
        pixels: Pixels,
        image_size: tuple[int, int],
        regions: AnyTreatments | None,
        restoration_point: int,
        earlier: CachedTokens | None = None,
    ) -> tuple[Detections, CachedTokens]:
        """Detect in a frame, and return its tokens."""


class TokensLost(ValueError):
    """The tokens that an offload's cached regions need are not there (any more), or do not fit its frame."""


class TokenCache:
    """Tokens by client and offload; the least recently used are dropped where they exceed a bound.

    Lost tokens cost a client one refused offload: it then sends a frame without cached regions.

    Args:
        max_bytes: bound on the tokens of all clients; 0 caches nothing.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._clients: set[bytes] = set()
        self._tokens: OrderedDict[tuple[bytes, int], CachedTokens] = OrderedDict()
        self._lock = threading.Lock()  # clients come and end in another thread than the one that infers

    def copy(self) -> TokenCache:
        """A cache with the same clients and tokens, which changes apart from this one."""
        twin = TokenCache(self._max_bytes)
        twin._clients, twin._tokens = self._clients.copy(), self._tokens.copy()
        return twin

    def open(self, client: bytes) -> None:
        """Cache for a client from now on, until `forget`."""
        with self._lock:
            self._clients.add(client)

    def check(self, client: bytes, offload: Offload, geometry: ModelGeometry) -> None:
        """Raise `TokensLost` unless the tokens that an offload's cached regions need are there and fit its frame."""
        self._earlier(client, offload, geometry)

    def infer(self, detector: DetectorLike, client: bytes, frame: DecodedFrame) -> tuple[Detections, bool]:
        """Detect in a frame whose offload asks for its tokens to be cached.

        Returns:
            Boxes in pixels of the sent frame, and whether its tokens are cached now.

        Raises:
            TokensLost: the tokens that cached regions need are not there, or do not fit.
        """
        offload = frame.offload
        earlier = self._earlier(client, offload, detector.geometry)
        if not (isinstance(detector, CachingDetector) and detector.caches_tokens):
            return infer(detector, [frame])[0], False
        moved = None if earlier is None else earlier.moved(offload.displacements)
        point = offload.restoration_point
        found, tokens = detector.detect_cached(frame.pixels, frame.image_size, frame.regions, point, moved)
        return found, self._put(client, offload.seq, tokens)

    def forget(self, client: bytes) -> None:
        """Drop the tokens of a client, and keep none of its offloads that are still being served."""
        with self._lock:
            self._clients.discard(client)
            for key in self._of(client):
                del self._tokens[key]

    def _earlier(self, client: bytes, offload: Offload, geometry: ModelGeometry) -> CachedTokens | None:
        """The tokens that an offload's cached regions take theirs from; None without such regions."""
        caching = offload.caching
        if caching is UNSET or caching.base == NO_BASE:
            return None
        key = client, caching.base
        with self._lock:
            tokens = self._tokens.get(key)
            if tokens is None:
                raise TokensLost(f"no cached tokens of offload {caching.base}: offload a frame without cached regions")
            self._tokens.move_to_end(key)
        try:
            tokens.check(geometry.grid(offload.width, offload.height), offload.restoration_point)
        except UserError as error:
            raise TokensLost(str(error)) from error
        return tokens

    def _put(self, client: bytes, seq: int, tokens: CachedTokens) -> bool:
        """Cache tokens unless their client has ended, and drop others where they are too many; whether these stay."""
        with self._lock:
            if client not in self._clients:
                return False
            self._tokens[client, seq] = tokens
            for key in self._of(client)[:-FRAMES_PER_CLIENT]:
                del self._tokens[key]
            while sum(each.bytes for each in self._tokens.values()) > self._max_bytes:
                self._tokens.popitem(last=False)
            return (client, seq) in self._tokens

    def _of(self, client: bytes) -> list[tuple[bytes, int]]:
        """Keys of a client's tokens, the oldest offload first."""
        return sorted(key for key in self._tokens if key[0] == client)
