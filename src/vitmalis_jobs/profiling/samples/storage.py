"""Sample files: one for each sampled frame while a job runs, one for each clip when it ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from vitmalis.paths import atomic_path
from vitmalis.tables.parquet import read_parquet
from vitmalis.untrusted_files import damage_reported
from vitmalis_jobs.profiling.samples.outcomes import Sample

VERSION = 3
"""Increased whenever the same settings would give other samples, so that old ones are not used any more."""

_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
SCHEMA = pa.schema(
    pa.field(f.name, _TYPES[str(Sample.__annotations__[f.name])], nullable=False)
    for f in msgspec.structs.fields(Sample)
)


class SampleFolder:
    """Folder with the samples of one model: `<clip>.parquet`, and under `frames/` a folder for each choice of settings.

    Args:
        folder: of the samples of all models.
        model, model_id: the detector.
        settings: everything else that the samples depend on; frames sampled with other settings are not used.
    """

    def __init__(self, folder: Path, model: str, model_id: str, settings: dict[str, Any]) -> None:
        self.path = folder / model_id
        about = {"model": model, "model_id": model_id, "samples_version": VERSION, "settings": settings}
        text = json.dumps(about, indent=2, sort_keys=True)
        self._metadata = {f"vitmalis.{key}": json.dumps(value).strip('"') for key, value in about.items()}
        self._frames = self.path / "frames" / hashlib.sha256(text.encode()).hexdigest()[:12]
        if not (self._frames / "about.json").exists():
            with atomic_path(self._frames / "about.json") as temporary:
                temporary.write_text(text + "\n")

    def frame_path(self, clip: str, part: str, frame_index: int) -> Path:
        """The file with the samples of one frame, which may not exist yet."""
        return self._frames / f"{clip}-{part}-{frame_index:06d}.parquet"

    def save_frame(self, samples: Sequence[Sample], frame_index: int) -> None:
        """Store all samples of one frame; a run of a policy answers a wanted frame with the next that it offloads."""
        self._write(self.frame_path(samples[0].clip, samples[0].part, frame_index), _table(samples))

    def merge(self, clip: str) -> Path | None:
        """Merge all frames of a clip that were sampled with these settings into one file; None if there are none."""
        tables = [_read(path) for path in sorted(self._frames.glob(f"{clip}-*.parquet"))]
        of_clip = [table for table in tables if table.column("clip")[0].as_py() == clip]
        if not of_clip:
            return None
        merged = pa.concat_tables(of_clip)
        kind = merged.column("moments")[0].as_py()
        path = self.path / (f"{clip}.parquet" if kind == "tracked" else f"{clip}.{kind}.parquet")
        self._write(path, merged)
        return path

    def _write(self, path: Path, table: pa.Table) -> None:
        with atomic_path(path) as temporary:
            pq.write_table(table.replace_schema_metadata(self._metadata), temporary, compression="zstd")


def _table(samples: Iterable[Sample]) -> pa.Table:
    return pa.Table.from_pylist([msgspec.structs.asdict(sample) for sample in samples], schema=SCHEMA)


def _read(path: Path) -> pa.Table:
    with damage_reported(f"samples {path}", "delete it, and it is sampled again"):
        return read_parquet(path, SCHEMA.names).select(SCHEMA.names).cast(SCHEMA)


def summary(path: Path) -> dict[str, Any]:
    """Summarise the file of a clip: counts, and means over all samples."""
    samples = _read(path).to_pandas()
    frames = samples.drop_duplicates(["part", "frame_index"])
    return {
        "frames": len(frames),
        "frames_by_part": frames["part"].value_counts(sort=False).to_dict(),
        "samples": len(samples),
        "objects_per_frame": round(float((frames["tp"] + frames["fn"]).mean()), 2),
        "payload_kib": round(float(samples["payload_bytes"].mean()) / 1024, 1),
        "f1": round(float(samples["f1"].mean()), 3),
        "downsampled_share": {
            str(tau_d): round(float((rows["downsampled_regions"] / rows["regions"]).mean()), 3)
            for tau_d, rows in samples.groupby("tau_d")
        },
    }
