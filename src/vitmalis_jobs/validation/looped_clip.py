"""A clip that is repeated to a longer video, for jobs that play for a long time."""

from __future__ import annotations

from pathlib import Path

import av

from vitmalis.paths import atomic_path


def loop_clip(source: Path, target: Path, seconds: float) -> None:
    """Repeat the packets of a video, without encoding them again, until the result is at least so long."""
    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as out:
        stream, offset = None, 0
        while True:
            with av.open(str(source)) as video:
                own = video.streams.video[0]
                stream = stream or out.add_stream_from_template(own)
                end = offset
                for packet in video.demux(own):
                    if packet.dts is None:  # marks the end
                        continue
                    packet.pts, packet.dts = (packet.pts or 0) + offset, packet.dts + offset
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.stream = stream
                    out.mux(packet)
                if own.time_base is None or end == offset or end * own.time_base >= seconds:
                    return
                offset = end
