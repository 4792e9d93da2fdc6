"""The wire protocol: golden bytes, round trips, bounds, and hostile bytes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.instance_masks import MASK_BYTES, MASK_SIDE, quantized
from vitmalis.network.wire import coding
from vitmalis.network.wire import messages as m
from vitmalis.network.wire.caching import Caching
from vitmalis.network.wire.feedback import AskedRegions, UncertainScores
from vitmalis.network.wire.payloads import pack_detections, unpack_detections
from vitmalis.offload import TokenCaching
from vitmalis.regions import ModelGeometry
from vitmalis.types import COCO_CLASSES, Configuration, Detections

GEOMETRY = ModelGeometry(window=9, factor=2, patch_px=16, restoration_points=4)
OFFLOAD = m.Offload.of(7, 30, (960, 540), Configuration(2, 75, 3), window_size=9, downsampling_factor=2)
WELCOME = m.Welcome("vitdet_tiny", "ab12", GEOMETRY)
RESULT = m.Result(seq=7, count=0, decode_s=0.01, inference_s=0.2, queue_s=0.0, transfer_s=0.3, server_s=0.21)
ASKING = msgspec.structs.replace(OFFLOAD, feedback=UncertainScores(0.2, 0.5))
ASKED = msgspec.structs.replace(RESULT, asked=AskedRegions(2, 4, b"\x81"))
MASKED = msgspec.structs.replace(RESULT, masks=0)
SIZED_HELLO = m.Hello("device", (960, 540))
FROM_CLIENT: list[m.ClientMessage] = [m.Hello("device"), SIZED_HELLO, m.Announce(7), OFFLOAD, ASKING, m.Ping(5)]
FROM_SERVER: list[m.ServerMessage] = [WELCOME, RESULT, ASKED, MASKED, m.Failure.of(7, "no"), m.Pong(5)]


def header(content: dict[str, Any] | list[Any]) -> bytes:
    return m.MAGIC + bytes([m.PROTOCOL]) + msgspec.msgpack.encode(content)


def fields_of(message: m.ClientMessage | m.ServerMessage) -> dict[str, Any]:
    return msgspec.msgpack.decode(coding.encode(message)[0][3:])


def offload_fields(**changes: Any) -> dict[str, Any]:
    return fields_of(OFFLOAD) | changes


def detections(count: int) -> Detections:
    rng = np.random.default_rng(count)
    return Detections.of(rng.uniform(0, 960, (count, 4)), rng.uniform(0, 1, count), rng.integers(0, 80, count))


def test_bytes_on_the_wire_are_as_documented() -> None:
    assert coding.encode(m.Announce(5)) == [b"VM\x02\x82\xa4type\xa8announce\xa3seq\x05"]


@pytest.mark.parametrize("message", FROM_CLIENT, ids=lambda message: type(message).__name__)
def test_messages_of_a_client_round_trip(message: m.ClientMessage) -> None:
    payload = b"jpeg" if isinstance(message, m.Offload) else b""
    assert coding.decode_from_client(coding.encode(message, payload)) == (message, payload)


@pytest.mark.parametrize("message", FROM_SERVER, ids=lambda message: type(message).__name__)
def test_messages_of_a_server_round_trip(message: m.ServerMessage) -> None:
    assert coding.decode_from_server(coding.encode(message)) == (message, b"")


def test_messages_without_a_second_round_cached_tokens_and_masks_have_no_fields_of_theirs() -> None:
    for message, fields in ((OFFLOAD, {"feedback", "caching"}), (RESULT, {"asked", "cached", "masks"})):
        assert fields_of(message).keys() == {"type", *message.__struct_fields__} - fields


def test_a_hello_may_say_how_large_frames_are() -> None:
    assert fields_of(SIZED_HELLO)["frame_size"] == [960, 540]
    assert fields_of(m.Hello("device")) == {"type": "hello", "client_id": "device"}


def test_the_regions_that_are_asked_back_arrive() -> None:
    mask = ASKED.asked.mask  # type: ignore[union-attr]
    assert np.argwhere(mask).tolist() == [[0, 0], [1, 3]]
    assert AskedRegions.of(mask) == ASKED.asked


@pytest.mark.parametrize("scores", [(0.5, 0.5), (-0.1, 0.5), (0.2, 1.1), (math.nan, 0.5), (0.2, math.nan)])
def test_scores_that_do_not_rise_from_0_to_1_are_refused(scores: tuple[float, float]) -> None:
    wrong = header(offload_fields(feedback={"low": scores[0], "high": scores[1]}))
    with pytest.raises(m.ProtocolError, match="malformed") as error:
        coding.decode_from_client([wrong, b"jpeg"])
    assert error.value.seq == OFFLOAD.seq


def test_a_mask_of_another_length_than_its_regions_is_refused() -> None:
    wrong = fields_of(ASKED) | {"asked": {"rows": 2, "cols": 4, "bits": b"\x81\x00"}}
    with pytest.raises(m.ProtocolError, match="2 bytes of mask for 2 x 4 regions"):
        coding.decode_from_server([header(wrong), b""])


def test_configuration_and_mask_arrive() -> None:
    mask = np.zeros((2, 4), bool)  # 540 and 960 pixels in regions of 288
    mask[0, 1] = mask[1, 3] = True
    offload = m.Offload.of(
        1, 2, (960, 540), Configuration(1, 50, 4), downsample_mask=mask, window_size=9, downsampling_factor=2
    )
    assert offload.mask_bits == b"\x41"  # 0100 0001
    arrived, _ = coding.decode_from_client(coding.encode(offload, b"x"))
    assert isinstance(arrived, m.Offload)
    assert (arrived.tau_d, arrived.quality, arrived.restoration_point) == (1, 50, 4)
    np.testing.assert_array_equal(arrived.downsample_mask, mask)
    assert OFFLOAD.downsample_mask is None


CACHED = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], bool)
MOVED = np.where(CACHED[:, :, None], np.array([-1, 2], np.int8), np.int8(0))


def cached_offload(caching: TokenCaching) -> m.Offload:
    part = Caching.of(caching)
    return m.Offload.of(1, 2, (960, 540), Configuration(0, 50, 4), window_size=9, downsampling_factor=2, caching=part)


def test_cached_regions_and_their_moves_arrive() -> None:
    offload = cached_offload(TokenCaching(base=7, mask=CACHED, displacements=MOVED))
    assert offload.caching == Caching(7, b"\x68", b"\xff\x02" * 3)  # 0110 1000, and -1, 2 for each
    arrived, _ = coding.decode_from_client(coding.encode(offload, b"x"))
    assert isinstance(arrived, m.Offload)
    np.testing.assert_array_equal(arrived.regions, 2 * CACHED.astype(np.int8))
    np.testing.assert_array_equal(arrived.displacements, MOVED)
    unmoved = cached_offload(TokenCaching(7, CACHED))
    assert unmoved.caching == Caching(7, b"\x68")
    assert not unmoved.displacements.any()
    assert msgspec.msgpack.encode(cached_offload(TokenCaching()).caching) == b"\x80", "an empty map: only to be cached"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"restoration_point": 0}, "from restoration point 1 on"),
        ({"caching": Caching(7, b"\xff")}, "all regions are cached"),
        ({"caching": Caching(7, b"\x68\x00")}, "2 bytes of mask for 2 x 4 regions"),
        ({"caching": Caching(m.NO_SEQ, b"\x68")}, "3 cached regions of offload -1"),
        ({"caching": Caching(7)}, "0 cached regions of offload 7"),
        ({"caching": Caching(7, b"\x68", b"\x01")}, "1 bytes of moves for 3 cached regions"),
    ],
)
def test_caching_that_does_not_fit_its_frame_is_refused(changes: dict[str, Any], reason: str) -> None:
    offload = cached_offload(TokenCaching(7, CACHED))
    fields = fields_of(offload) | {
        name: msgspec.to_builtins(value, builtin_types=(bytes,)) for name, value in changes.items()
    }
    with pytest.raises(m.ProtocolError, match=reason) as raised:
        coding.decode_from_client([header(fields), b"x"])
    assert raised.value.seq == 1


def test_bits_beyond_the_last_region_mean_nothing() -> None:
    """Of 3 x 3 regions, the second byte has 7 such bits."""
    bits = b"\x00\x7f"
    low, cached = {"mask_rows": 3, "mask_cols": 3, "mask_bits": bits}, {"caching": {"mask_bits": bits}}
    for changes in (low, cached, low | cached):
        fields = offload_fields(width=864, height=864, restoration_point=1, **changes)
        arrived, _ = coding.decode_from_client([header(fields), b"x"])
        assert isinstance(arrived, m.Offload)
        assert (arrived.downsample_mask, arrived.regions) == (None, None)


@given(st.integers(16, 2000), st.integers(16, 2000), st.integers(1, 9), st.integers(1, 4), st.randoms())
def test_every_mask_of_the_right_shape_arrives(width: int, height: int, w: int, d: int, random: Any) -> None:
    rows, cols = math.ceil(height / (16 * w * d)), math.ceil(width / (16 * w * d))
    mask = np.array([[random.random() < 0.5 for _ in range(cols)] for _ in range(rows)])
    offload = m.Offload.of(
        1, 2, (width, height), Configuration(), downsample_mask=mask, window_size=w, downsampling_factor=d
    )
    arrived, _ = coding.decode_from_client(coding.encode(offload, b"x"))
    assert isinstance(arrived, m.Offload)
    if mask.any():
        np.testing.assert_array_equal(arrived.downsample_mask, mask)
    else:
        assert arrived.downsample_mask is None


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 15},
        {"height": 8193},
        {"quality": 0},
        {"quality": 101},
        {"quality": 90.5},
        {"quality": True},
        {"tau_d": 3},
        {"restoration_point": -1},
        {"window_size": 0},
        {"downsampling_factor": 9},
        {"frame_index": 2**53 + 1},
        {"frame_index": "0"},
        {"frame_index": None},
        {"mask_rows": 2},
        {"mask_rows": 2, "mask_cols": 4},
        {"mask_rows": 2, "mask_cols": 4, "mask_bits": b"12"},
        {"mask_rows": 4, "mask_cols": 2, "mask_bits": b"1"},
        {"mask_rows": 513, "mask_cols": 1, "mask_bits": b"1" * 65},
        {"mask_bits": b"1"},
        {"surprise": 1},
    ],
    ids=str,
)
def test_offloads_out_of_bounds_are_refused_by_their_number(changes: dict[str, Any]) -> None:
    coding.decode_from_client([header(offload_fields()), b"x"])
    with pytest.raises(m.ProtocolError, match="malformed header") as refusal:
        coding.decode_from_client([header(offload_fields(**changes)), b"x"])
    assert refusal.value.seq == OFFLOAD.seq


@pytest.mark.parametrize("changes", [{"window": 0}, {"window": 65}, {"factor": 9}, {"patch_px": 14}, {"window": "5"}])
def test_models_that_cannot_be_served_are_not_believed(changes: dict[str, Any]) -> None:
    geometry = {**msgspec.structs.asdict(GEOMETRY), **changes}
    with pytest.raises(m.ProtocolError, match="malformed header"):
        coding.decode_from_server([header({"type": "welcome", "model": "a", "model_id": "b", "geometry": geometry})])


@pytest.mark.parametrize("seq", [-1, 2**53 + 1, 2**64 - 1, 1.5, math.nan, "1", None])
def test_sequence_numbers_out_of_bounds_are_refused(seq: Any) -> None:
    with pytest.raises(m.ProtocolError) as refusal:
        coding.decode_from_client([header(offload_fields(seq=seq)), b"x"])
    assert refusal.value.seq == m.NO_SEQ


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 1e9])
@pytest.mark.parametrize("name", ["decode_s", "inference_s", "queue_s", "transfer_s", "server_s"])
def test_durations_are_finite_and_not_negative(name: str, value: float) -> None:
    fields = fields_of(RESULT) | {name: value}
    with pytest.raises(m.ProtocolError, match=name):
        coding.decode_from_server([header(fields), b""])


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "message of no frames"),
        ([b""], "not a ViTMAlis message"),
        ([b"VM"], "not a ViTMAlis message"),
        ([b"GET / HTTP/1.1"], "not a ViTMAlis message"),
        ([b"VM\x02"], "malformed"),
        ([b"VM\x02" + b"\x00" * m.MAX_HEADER_BYTES], "header of 65539 bytes"),
        ([b"VM\x02" + b"\x81\xa1x" + b"\x91" * 60_000], "malformed"),
        ([header({"type": "nonsense"})], "malformed"),
        ([header({"type": "welcome", "model": "a", "model_id": "b"})], "malformed"),
        ([header({"type": "hello", "client_id": "x" * 201})], "malformed"),
        ([header({"type": "hello", "client_id": "x", "frame_size": [8193, 16]})], "malformed"),
        ([b"VM\x02\x82\xa4type\xa5hello\xa9client_id\xa1\xff"], "malformed"),
        ([*coding.encode(m.Ping(1)), b"payload"], "Ping with a payload"),
        ([*coding.encode(OFFLOAD, b"x"), b"y"], "more than 2 frames"),
        (coding.encode(OFFLOAD), "without a payload"),
        (coding.encode(OFFLOAD, b"12345"), "payload of 5 bytes, at most 4"),
    ],
)
def test_bytes_that_are_no_message_are_refused(frames: list[bytes], words: str) -> None:
    with pytest.raises(m.ProtocolError, match=words):
        coding.decode_from_client(frames, max_payload_bytes=4)


def test_an_oversized_payload_is_refused_by_its_number() -> None:
    with pytest.raises(m.ProtocolError) as refusal:
        coding.decode_from_client(coding.encode(OFFLOAD, b"12345"), max_payload_bytes=4)
    assert refusal.value.seq == OFFLOAD.seq


def test_another_version_is_recognised_whatever_its_body() -> None:
    for decode in (coding.decode_from_client, coding.decode_from_server):
        with pytest.raises(m.ProtocolVersionError, match="protocol 9, this side 2: install the same") as refusal:
            decode([b"VM\x09 a body of the future"])
        assert refusal.value.theirs == 9


def test_long_reasons_are_cut() -> None:
    failure = m.Failure.of(1, "x" * 10_000)
    assert coding.decode_from_server(coding.encode(failure)) == (failure, b"")
    assert len(failure.reason) == m.MAX_REASON_CHARS


SAMPLES = [frames for message in (*FROM_CLIENT, *FROM_SERVER) for frames in [coding.encode(message, b"payload")]]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_random_bytes_raise_protocol_error_and_nothing_else(frames: list[bytes], prefixed: bool) -> None:
    if prefixed and frames:
        frames[0] = b"VM\x02" + frames[0]
    for decode in (coding.decode_from_client, coding.decode_from_server):
        with pytest.raises(m.ProtocolError):
            decode(frames)


@settings(max_examples=500)
@given(st.sampled_from(SAMPLES), st.data())
def test_mutated_messages_decode_or_raise_protocol_error(frames: list[bytes], data: st.DataObject) -> None:
    mutated = bytearray(frames[0])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        kind = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if kind == "set":
            mutated[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
        elif kind == "cut":
            del mutated[at:]
        else:
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    for decode in (coding.decode_from_client, coding.decode_from_server):
        try:
            message, _ = decode([bytes(mutated), *frames[1:]])
        except m.ProtocolError:
            continue
        # A decoded message is valid: it can be encoded and decoded again.
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message)) == message


@pytest.mark.parametrize("count", [0, 1, 100, m.MAX_DETECTIONS])
def test_detections_arrive_exactly(count: int) -> None:
    sent = detections(count)
    payload = pack_detections(sent)
    assert len(payload) == count * m.DETECTION_BYTES
    arrived = unpack_detections(RESULT.with_detections(sent), payload)
    np.testing.assert_array_equal(arrived.boxes_xyxy, sent.boxes_xyxy)
    np.testing.assert_array_equal(arrived.scores, sent.scores)
    np.testing.assert_array_equal(arrived.labels, sent.labels)
    assert (arrived.boxes_xyxy.dtype, arrived.scores.dtype, arrived.labels.dtype) == (np.float32, np.float32, np.int64)


def test_a_packed_detection_is_little_endian_box_score_label() -> None:
    assert pack_detections(Detections.of([[1, 2, 0, -2]], [0.5], [9])).hex() == (
        "0000803f" "00000040" "00000000" "000000c0" "0000003f" "0900"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("box", "score", "label", "words"),
    [
        ([0, 0, math.nan, 1], 0.5, 0, "non-finite"),
        ([0, 0, math.inf, 1], 0.5, 0, "non-finite"),
        ([0, 0, 1, 1], math.nan, 0, "scores"),
        ([0, 0, 1, 1], 1.5, 0, "scores"),
        ([0, 0, 1, 1], -0.5, 0, "scores"),
        ([0, 0, 1, 1], 0.5, len(COCO_CLASSES), "labels"),
    ],
)
def test_impossible_detections_are_neither_sent_nor_accepted(
    box: list[float], score: float, label: int, words: str
) -> None:
    with pytest.raises(m.ProtocolError, match=words):
        pack_detections(Detections.of([box], [score], [label]))
    raw = np.array([*box, score], "<f4").tobytes() + np.array([label], "<u2").tobytes()
    with pytest.raises(m.ProtocolError, match=words):
        unpack_detections(msgspec.structs.replace(RESULT, count=1), raw)


def masked(count: int) -> Detections:
    masks = quantized(np.random.default_rng(count).random((count, MASK_SIDE, MASK_SIDE)))
    return dataclasses.replace(detections(count), masks=masks)


def sent_and_received(sent: Detections) -> tuple[m.Result, Detections]:
    frames = coding.encode(RESULT.with_detections(sent), pack_detections(sent))
    result, payload = coding.decode_from_server(frames)
    assert isinstance(result, m.Result)
    return result, unpack_detections(result, payload)


@pytest.mark.parametrize("count", [0, 1, m.MAX_MASKS])
def test_masks_arrive_exactly(count: int) -> None:
    sent = masked(count)
    result, arrived = sent_and_received(sent)
    assert (result.count, result.masks) == (count, count)
    assert result.payload_bytes == count * (m.DETECTION_BYTES + MASK_BYTES) <= m.MAX_RESULT_BYTES
    np.testing.assert_array_equal(arrived.masks, sent.masks)
    np.testing.assert_array_equal(arrived.boxes_xyxy, sent.boxes_xyxy)


def test_masks_that_fill_their_boxes_are_not_sent_behind_the_last_that_does_not() -> None:
    sent = masked(3).with_more(detections(m.MAX_DETECTIONS - 3))
    sent.masks[1] = 255  # type: ignore[index]
    result, arrived = sent_and_received(sent)
    assert (result.count, result.masks) == (m.MAX_DETECTIONS, 3)
    np.testing.assert_array_equal(arrived.masks, sent.masks)


def test_masks_and_their_number_must_agree() -> None:
    payload = pack_detections(masked(2))
    for wrong, what in (
        (detections(2), "2 detections$"),
        (masked(1), "1 detections with 1 masks$"),
        (masked(1).with_more(detections(1)), "2 detections with 1 masks$"),
    ):
        result = RESULT.with_detections(wrong)
        with pytest.raises(m.ProtocolError, match=f"828 bytes for {what}"):
            coding.decode_from_server(coding.encode(result, payload))
        with pytest.raises(m.ProtocolError, match=f"828 bytes for {what}"):
            unpack_detections(result, payload)
    with pytest.raises(m.ProtocolError, match="1001 masks, at most 1000"):
        pack_detections(masked(m.MAX_MASKS + 1))


@pytest.mark.parametrize(
    ("count", "masks", "reason"),
    [(2000, 1001, "<= 1000"), (2, 3, "3 masks of 2 detections"), (2, -1, ">= 0"), (2, True, "got `bool`")],
)
def test_impossible_numbers_of_masks_are_refused(count: int, masks: int, reason: str) -> None:
    with pytest.raises(m.ProtocolError, match=f"malformed header: .*{reason}"):
        coding.decode_from_server([header(fields_of(RESULT) | {"count": count, "masks": masks}), b""])


def test_detections_and_their_count_must_agree() -> None:
    with pytest.raises(m.ProtocolError, match="22 bytes for 2 detections"):
        unpack_detections(RESULT.with_detections(detections(2)), pack_detections(detections(1)))
    with pytest.raises(m.ProtocolError, match="22 bytes for 0 detections"):
        coding.decode_from_server(coding.encode(RESULT, pack_detections(detections(1))))
    with pytest.raises(m.ProtocolError, match="at most 10000"):
        pack_detections(detections(m.MAX_DETECTIONS + 1))
