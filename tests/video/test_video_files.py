"""Files as users have them: turned, with lengths that headers overstate, damage and variable rates."""

from __future__ import annotations

import socket
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.small_files import FPS, FRAMES, grey, levels, resolve
from vitmalis.errors import UserError
from vitmalis.video import decode
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import content_digest, open_video
from vitmalis.video.timing import FrameRate, frame_rate


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.mp4"
    write_clip(path, (grey(10 * i) for i in range(FRAMES)), FPS, (64, 36))
    return path


def test_a_colon_in_a_relative_name_is_no_address(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain.parent)
    plain.rename("2024-05-01T12:30:15.mp4")
    spec = resolve(Path("2024-05-01T12:30:15.mp4"))
    assert len(levels(spec)) == FRAMES
    write_clip(Path("12:30.mp4"), open_video(spec), FPS, (spec.width, spec.height))
    assert resolve(Path("12:30.mp4")).frames == FRAMES


def test_images_without_room_for_a_patch_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "strip.mp4"
    write_clip(path, (grey(100, 1000, 8) for _ in range(3)), FPS, (1000, 8))
    with pytest.raises(UserError, match=r"images of 1000x8 pixels become 960x8 .* no side may be below 16"):
        resolve(path, seconds=0.3)
    with pytest.raises(UserError, match=r"model\.max_width=12"):
        resolve(path, seconds=0.3, max_width=12)


def test_a_clip_cut_by_an_edit_list_is_as_long_as_it_decodes(plain: Path) -> None:
    path = plain.with_name("trimmed.mp4")
    cut_s = Fraction(FRAMES // 2, FPS)
    with av.open(str(plain)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                shift = int(cut_s / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                out.mux(packet)
    with av.open(str(path)) as clip:
        assert clip.streams.video[0].frames == FRAMES  # what the header says
    spec = resolve(path)
    assert spec.note == "the clip ends after 1.2 of 2.4 s: its header says 24 frames, 12 decode"
    assert levels(spec) == list(range(FRAMES // 2, FRAMES))
    assert resolve(path, seconds=1).note == ""


def test_a_damaged_tail_is_played_to_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    rng = np.random.default_rng(0)
    write_clip(path, (rng.integers(0, 256, (36, 64, 3), np.uint8) for _ in range(FRAMES)), FPS, (64, 36))
    whole = list(open_video(resolve(path)))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as clip:
        later = [p.pos for p in clip.demux(video=0) if p.pos is not None and p.pts is not None][FRAMES // 2]
    content[later : later + 400] = bytes([255] * 400)
    path.write_bytes(content)
    spec = resolve(path)
    assert 0 < spec.frames < FRAMES
    assert f"the file is damaged after frame {spec.frames - 1} (Invalid data" in spec.note
    played = list(open_video(spec))
    assert len(played) == spec.frames
    assert all(np.array_equal(a, b) for a, b in zip(played, whole, strict=False))


def test_a_truncated_file_is_played_to_its_end(plain: Path) -> None:
    path = plain.with_name("half.mkv")
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is not None:
                packet.stream = stream
                out.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    spec = resolve(path)
    assert 0 < spec.frames < FRAMES
    assert f"the clip ends after {spec.frames / FPS:g} of 2.4 s" in spec.note
    assert levels(spec)[:5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("degrees", "flipped", "upright"),  # brightness of the quarters: top left, top right, bottom left, bottom right
    [
        (0, False, [20, 80, 140, 200]),
        (90, False, [80, 200, 20, 140]),  # counterclockwise
        (180, False, [200, 140, 80, 20]),
        (-90, False, [140, 20, 200, 80]),
        (0, True, [80, 20, 200, 140]),
    ],
)
def test_images_are_upright(tmp_path: Path, degrees: int, flipped: bool, upright: list[int]) -> None:
    path = tmp_path / "phone.mp4"
    image = np.kron([[20, 80], [140, 200]], np.ones((32, 48))).astype(np.uint8)  # 96x64
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 96, 64
        if degrees or flipped:
            stream.set_display_rotation(degrees, hflip=flipped)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.dstack([image] * 3), format="rgb24")))
        out.mux(stream.encode())
    spec = resolve(path, seconds=0.3, max_width=96, max_height=96)
    size = (64, 96) if degrees in (90, -90) else (96, 64)
    assert (spec.width, spec.height) == size
    for shown in open_video(spec):
        assert shown.shape == (size[1], size[0], 3)
        quarters = [shown[y, x, 0] for y in (8, -8) for x in (8, -8)]
        assert quarters == pytest.approx(upright, abs=6)


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = tmp_path / "pal.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 72, 54
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey(100, 72, 54), format="rgb24")))
        out.mux(stream.encode())
    spec = resolve(path, seconds=0.3)
    assert (spec.width, spec.height) == (960, 540)  # 72 * 4 / 3 = 96 to 54
    assert next(iter(open_video(spec))).shape == (540, 960, 3)


def write_at(path: Path, ticks: list[int]) -> None:
    """Frame i, of brightness 10 i, is shown at ticks[i] / 10 s."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height = 64, 36
        for i, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(grey(10 * i), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_rate_is_resampled_by_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pause.{suffix}"
    write_at(path, [*range(12), *range(30, 42)])  # 1.9 s without a frame
    spec = resolve(path, seconds=10)
    assert (spec.fps, spec.frames, spec.by_time) == (10.0, 42, True)
    assert spec.note == "its frame rate varies: resampled by time to 10 FPS; the clip ends after 4.2 of 10 s"
    assert levels(spec) == [*range(11), *[11] * 19, *range(12, 24)]
    later = resolve(path, seconds=0.4, start_s=2.8)
    assert levels(later) == [11, 11, 12, 13]
    assert content_digest(spec) != content_digest(resolve(path, fps=10))


def test_a_rate_that_is_given_plays_every_frame_once(tmp_path: Path) -> None:
    path = tmp_path / "pause.mp4"
    write_at(path, [*range(12), *range(30, 42)])
    spec = resolve(path, fps=10)
    assert (spec.by_time, spec.note) == (False, "")
    assert levels(spec) == list(range(24))


def test_constant_and_variable_rates_by_hand() -> None:
    even_s = np.arange(100) / 30
    assert frame_rate(np.round(even_s, 3), 30.0, 30.0) == FrameRate(30.0)  # times in whole milliseconds
    assert frame_rate(np.delete(even_s, 50), 29.7, 30.0) == FrameRate(29.7)  # one frame lost
    assert frame_rate(even_s, 25.0, 25.0).fps == pytest.approx(30)  # a wrong header
    slower_s = np.concatenate([even_s, even_s[-1] + np.arange(1, 31) / 10])
    assert frame_rate(slower_s, 20.6, 30.0) == FrameRate(30.0, True, 99 + 90 + 1)
    paused_s = np.concatenate([even_s, even_s + 10])
    assert frame_rate(paused_s, 15.0, 1000.0).fps == pytest.approx(30)  # a nominal rate that no frame has
    assert frame_rate(np.zeros(5), 30.0, 30.0) == FrameRate(30.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": -5}, r"video\.fps=-5 must be a number, more than 0"),
        ({"fps": 0}, r"video\.fps=0 must be"),
        ({"fps": float("nan")}, r"video\.fps=nan must be"),
        ({"seconds": 0.01}, r"eval\.seconds=0\.01 is less than one frame at 10 FPS: ask for at least 0\.100"),
        ({"seconds": 0}, r"eval\.seconds=0 must be a number, more than 0"),
        ({"start_s": -1}, r"eval\.start_s=-1 must be a number, 0 or more"),
    ],
)
def test_lengths_and_rates_that_cannot_be(plain: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve(plain, **options)


def test_frames_beyond_8k_are_refused_before_they_are_decoded(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_PIXELS", 64 * 36)
    assert resolve(plain).frames == FRAMES
    monkeypatch.setattr(decode, "MAX_PIXELS", 64 * 36 - 1)
    larger = plain.with_name("larger.mp4")
    plain.rename(larger)
    with pytest.raises(UserError, match=r"larger\.mp4' has frames of 64x36, more than"):
        resolve(larger)


def test_frames_that_grow_within_a_stream_are_refused_by_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grows.m2v"
    with path.open("wb") as file:
        for width, height in ((64, 48), (640, 480)):
            part = tmp_path / f"{width}.m2v"
            with av.open(str(part), "w", format="mpeg2video") as out:
                stream = out.add_stream("mpeg2video", rate=25)
                stream.width, stream.height = width, height
                for level in range(5):
                    image = grey(10 * level, width, height)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                out.mux(stream.encode())
            file.write(part.read_bytes())
    with av.open(str(path)) as container:
        assert max(frame.width for frame in container.decode(container.streams.video[0])) == 640  # the trap is real
    monkeypatch.setattr(decode, "MAX_PIXELS", 64 * 48)
    spec = resolve(path, fps=25.0)
    assert spec.frames <= 5
    assert "damaged" in spec.note


def test_a_playlist_cannot_make_ffmpeg_open_a_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        path = tmp_path / "clip.m3u8"
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/part.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(UserError, match="cannot be read as a video"):
            resolve(path)
        with pytest.raises(TimeoutError):
            listener.accept()
