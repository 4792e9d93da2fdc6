"""Bundles: a folder with all that a device needs to play a run, and in which its records come back.

The device needs the extra `client` only: neither torch nor MLflow nor Hydra.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from vitmalis.client.session import SESSION_FILE, ClientSession, read_session, write_session
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.records import FRAMES_FILE, read_info
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.config import read_config as read_run_config
from vitmalis_jobs.run.fingerprint import clip_digest
from vitmalis_jobs.run.records import RunRecords, read_records
from vitmalis_jobs.run.spec import PreparedRun

CONFIG_FILE, FACTS_FILE = "config.yaml", "bundle.json"
TABLES_FILE, ESTIMATORS_FOLDER = "latency_tables.json", "estimators"


class BundleFacts(msgspec.Struct, frozen=True):
    """The clip and the model of a bundle, by digest; they must be the same when it is scored."""

    clip: str
    model_id: str


def write_bundle(run: PreparedRun, folder: Path) -> ClientSession:
    """Write everything that `python -m vitmalis.client` needs into a folder; all paths are relative to it.

    Raises:
        UserError: the source is live, or the folder holds records already.
    """
    if run.clip.live:
        raise UserError(f"video '{run.clip.name}' is live: a device needs no bundle to play its own camera")
    if (folder / FRAMES_FILE).exists():
        raise UserError(f"'{folder}' holds records of a run: score it, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    clip = Path(run.clip.path)
    facts = BundleFacts(clip_digest(run.clip), run.model_id)
    session = run.session(run.config.server.address, Path())
    options = dict(session.policy_options)
    if options.get("latency_tables"):
        shutil.copyfile(options["latency_tables"], folder / TABLES_FILE)
        options["latency_tables"] = TABLES_FILE
    if options.get("estimators"):
        shutil.copytree(options["estimators"], folder / ESTIMATORS_FOLDER, dirs_exist_ok=True)
        options["estimators"] = ESTIMATORS_FOLDER
    shutil.copyfile(clip, folder / f"clip{clip.suffix}")
    video = msgspec.structs.replace(session.video, path=f"clip{clip.suffix}")
    session = msgspec.structs.replace(session, video=video, policy_options=options)
    (folder / CONFIG_FILE).write_bytes(msgspec.yaml.encode(run.config))
    with atomic_path(folder / FACTS_FILE) as temporary:
        temporary.write_bytes(msgspec.json.encode(facts))
    write_session(session, folder / SESSION_FILE)
    return session


def read_config(folder: Path) -> EvaluationConfig:
    """The configuration that a bundle was exported from; raises `UserError` where there is none."""
    path = folder / CONFIG_FILE
    try:
        return read_run_config(path)
    except OSError as error:
        raise UserError(
            f"'{folder}' is no bundle ({path.name}: {error.strerror}): python -m evaluation.device.export makes one"
        ) from error
    except msgspec.MsgspecError as error:
        raise UserError(f"'{path}' was made by another version ({error}): export the bundle again") from error


def read_bundle_records(folder: Path, run: PreparedRun) -> RunRecords:
    """The records of what the device played, checked against the bundle that it was given.

    Raises:
        UserError: this is no bundle, there are no records, they end early, or clip or model have changed since.
    """
    try:
        facts = msgspec.json.decode((folder / FACTS_FILE).read_bytes(), type=BundleFacts)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(
            f"'{folder}' is no bundle ({FACTS_FILE}: {error}): python -m evaluation.device.export makes one"
        ) from error
    for name, then, now in (
        ("clip", facts.clip, clip_digest(run.clip)),
        ("model", facts.model_id, run.model_id),
    ):
        if then != now:
            raise UserError(f"'{folder}': the {name} is not the one it was made with: export and play it again")
    info = read_info(folder / FRAMES_FILE)
    session = read_session(folder / SESSION_FILE)
    if (info.clip, info.policy) != (session.video.name, session.policy):
        raise UserError(f"'{folder}' holds records of {info.policy} on {info.clip}, not of {run.spec.title}")
    if info.ended != "complete":
        raise UserError(f"'{folder}': the run on the device was {info.ended} before its end: play it again")
    return read_records(folder)
