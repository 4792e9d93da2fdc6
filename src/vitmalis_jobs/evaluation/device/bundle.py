"""Bundles: a folder with all that a device needs to play a run, and in which its records come back.

The device needs the extra `client` only: neither torch nor MLflow nor Hydra. What the run is (its configuration,
session, clip and model) stays here, in `runs/bundles`, under a name that the bundle carries. A folder that comes back
may have been changed, so its records are taken from it and nothing else: it chooses no weights, no address and no place
to write to.
"""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path

import msgspec

from vitmalis.client.session import SESSION_FILE, ClientSession, write_session
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path, make_folder
from vitmalis.records import FRAMES_FILE, read_info
from vitmalis.untrusted_files import decode_json
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.fingerprint import clip_digest
from vitmalis_jobs.run.record_checks import check_records
from vitmalis_jobs.run.records import RunRecords, read_records, record_files
from vitmalis_jobs.run.spec import PreparedRun
from vitmalis_jobs.run.stored_config import read_config as read_run_config

KEPT_BUNDLES = Path("runs") / "bundles"
CONFIG_FILE, FACTS_FILE, BUNDLE_FILE = "config.yaml", "facts.json", "bundle.json"
TABLES_FILE, ESTIMATORS_FOLDER = "latency_tables.json", "estimators"


class BundleFacts(msgspec.Struct, frozen=True):
    """The clip and the model of a bundle, by digest; they must be the same when it is scored."""

    clip: str
    model_id: str


class BundleLabel(msgspec.Struct, frozen=True):
    """What a bundle says about itself: the name of the folder in `runs/bundles` that belongs to it."""

    bundle: str


def write_bundle(run: PreparedRun, folder: Path) -> ClientSession:
    """Write everything that `python -m vitmalis.client` needs into a folder; all paths are relative to it.

    Raises:
        UserError: the source is live, or the folder holds records already.
    """
    if run.clip.live:
        raise UserError(f"video '{run.clip.name}' is live: a device needs no bundle to play its own camera")
    if (folder / FRAMES_FILE).exists():
        raise UserError(f"'{folder}' holds records of a run: score it, or give another folder")
    make_folder(folder)
    session = run.session(run.config.server.address, Path())
    label = BundleLabel(secrets.token_hex(8))
    _keep(run, session, KEPT_BUNDLES / label.bundle)
    session = _with_files(session, folder)
    with atomic_path(folder / BUNDLE_FILE) as temporary:
        temporary.write_bytes(msgspec.json.encode(label))
    write_session(session, folder / SESSION_FILE)
    return session


def _keep(run: PreparedRun, session: ClientSession, kept: Path) -> None:
    """Write what the run is into the folder in which it is scored."""
    make_folder(kept)
    (kept / CONFIG_FILE).write_bytes(msgspec.yaml.encode(run.config))
    (kept / FACTS_FILE).write_bytes(msgspec.json.encode(BundleFacts(clip_digest(run.clip), run.model_id)))
    write_session(session, kept / SESSION_FILE)


def _with_files(session: ClientSession, folder: Path) -> ClientSession:
    """Copy the files that a session names into a folder; returns the session that names the copies."""
    options = dict(session.policy_options)
    if options.get("latency_tables"):
        shutil.copyfile(options["latency_tables"], folder / TABLES_FILE)
        options["latency_tables"] = TABLES_FILE
    if options.get("estimators"):
        shutil.copytree(options["estimators"], folder / ESTIMATORS_FOLDER, dirs_exist_ok=True)
        options["estimators"] = ESTIMATORS_FOLDER
    clip = Path(session.video.path)
    shutil.copyfile(clip, folder / f"clip{clip.suffix}")
    video = msgspec.structs.replace(session.video, path=f"clip{clip.suffix}")
    return msgspec.structs.replace(session, video=video, policy_options=options)


def kept_folder(folder: Path) -> Path:
    """The folder in `runs/bundles` that belongs to a bundle; raises `UserError` where there is none."""
    try:
        name = decode_json((folder / BUNDLE_FILE).read_bytes(), BundleLabel).bundle
    except (OSError, msgspec.MsgspecError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"'{folder}' is no bundle ({BUNDLE_FILE}: {reason}): python -m evaluation.device.export makes one"
        ) from error
    if not re.fullmatch("[0-9a-f]{16}", name) or not (KEPT_BUNDLES / name / FACTS_FILE).is_file():
        raise UserError(
            f"'{folder}' was not exported here (its {BUNDLE_FILE} belongs to nothing in {KEPT_BUNDLES.absolute()}): "
            "score it in the project that exported it, or export and play it again"
        )
    return KEPT_BUNDLES / name


def read_config(kept: Path) -> EvaluationConfig:
    """The configuration that was exported; raises `UserError` if this version cannot read it."""
    path = kept / CONFIG_FILE
    try:
        return read_run_config(path)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(f"'{path}' was made by another version ({error}): export the bundle again") from error


def device_records(folder: Path, kept: Path, run: PreparedRun) -> RunRecords:
    """Read and check the records of what the device played.

    Raises:
        UserError: there are no records, they end early or are not of this run, or clip or model have changed since.
    """
    facts = decode_json((kept / FACTS_FILE).read_bytes(), BundleFacts)
    for name, then, now in (
        ("clip", facts.clip, clip_digest(run.clip)),
        ("model", facts.model_id, run.model_id),
    ):
        if then != now:
            raise UserError(f"'{folder}': the {name} is not the one it was made with: export and play it again")
    info = read_info(folder / FRAMES_FILE)
    if (info.clip, info.policy) != (run.clip.name, run.config.policy_name):
        raise UserError(
            f"'{folder}' holds records of {info.policy!r:.80} on {info.clip!r:.80}, not of {run.spec.title}"
        )
    if info.ended != "complete":
        raise UserError(f"'{folder}': the run on the device ended early ({info.ended}): play it again")
    records = read_records(folder)
    if [frame.frame_index for frame in records.frames] != list(range(run.clip.frames)):
        raise UserError(f"'{folder}': the records are not of the {run.clip.frames} frames of the clip: play it again")
    check_records(folder, records, run.clip, run.spec.model.geometry)
    return records


def take_records(folder: Path, kept: Path) -> None:
    """Copy the files of a device's records into the kept folder."""
    for path in record_files(folder):
        with atomic_path(kept / path.name) as temporary:
            shutil.copyfile(path, temporary)
