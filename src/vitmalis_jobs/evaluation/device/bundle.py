"""What a device needs to play a run without this project's heavy half: one folder, made here and judged here."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from vitmalis.client.session import SESSION_FILE, ClientSession, read_session, write_session
from vitmalis.errors import UserError
from vitmalis.paths import atomic_path
from vitmalis.records import FRAMES_FILE, read_info
from vitmalis_jobs.run.config import EvaluationConfig
from vitmalis_jobs.run.fingerprint import clip_digest, configured_model_id
from vitmalis_jobs.run.processes import Played, read_played
from vitmalis_jobs.run.spec import RunSpec

CONFIG_FILE, FACTS_FILE = "config.yaml", "bundle.json"
TABLES_FILE, ESTIMATORS_FOLDER = "latency_tables.json", "estimators"


class BundleFacts(msgspec.Struct, frozen=True):
    """What must still hold when the bundle is judged: which clip was played, and which model had to serve it."""

    clip: str
    model_id: str


def write_bundle(plan: RunSpec, folder: Path) -> ClientSession:
    """Copy and write everything that `python -m vitmalis.client` takes; all paths are relative to the folder.

    Raises:
        UserError: the source is live, or the folder holds records already.
    """
    if plan.clip.live:
        raise UserError(f"video '{plan.clip.name}' is live: a device needs no bundle to play its own camera")
    if (folder / FRAMES_FILE).exists():
        raise UserError(f"'{folder}' holds records of a run: judge it, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    clip = Path(plan.clip.path)
    facts = BundleFacts(clip_digest(plan.clip), configured_model_id(plan.config.model))
    session = plan.session(plan.config.server.address, facts.model_id, Path())
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
    (folder / CONFIG_FILE).write_bytes(msgspec.yaml.encode(plan.config))
    with atomic_path(folder / FACTS_FILE) as temporary:
        temporary.write_bytes(msgspec.json.encode(facts))
    write_session(session, folder / SESSION_FILE)
    return session


def read_config(folder: Path) -> EvaluationConfig:
    """The configuration that a bundle was made from; raises `UserError` where there is none."""
    path = folder / CONFIG_FILE
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=EvaluationConfig)
    except OSError as error:
        raise UserError(
            f"'{folder}' is no bundle ({path.name}: {error.strerror}): python -m evaluation.device.export makes one"
        ) from error
    except msgspec.MsgspecError as error:
        raise UserError(f"'{path}' was made by another version ({error}): prepare the bundle anew") from error


def read_records(folder: Path, plan: RunSpec) -> Played:
    """What the device played, if it is what the plan says and came to its end.

    Raises:
        UserError: this is no bundle, there are no records, they end early, or clip or model have changed since it was
            made.
    """
    try:
        facts = msgspec.json.decode((folder / FACTS_FILE).read_bytes(), type=BundleFacts)
    except (OSError, msgspec.MsgspecError) as error:
        raise UserError(
            f"'{folder}' is no bundle ({FACTS_FILE}: {error}): python -m evaluation.device.export makes one"
        ) from error
    for name, then, now in (
        ("clip", facts.clip, clip_digest(plan.clip)),
        ("model", facts.model_id, configured_model_id(plan.config.model)),
    ):
        if then != now:
            raise UserError(f"'{folder}': the {name} is not the one it was made with: prepare and play it anew")
    info = read_info(folder / FRAMES_FILE)
    session = read_session(folder / SESSION_FILE)
    if (info.clip, info.policy) != (session.video.name, session.policy):
        raise UserError(f"'{folder}' holds records of {info.policy} on {info.clip}, not of {plan.title}")
    if info.ended != "complete":
        raise UserError(f"'{folder}': the run on the device was {info.ended} before its end: play it again")
    return read_played(folder)
