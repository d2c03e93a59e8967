"""Versions and aliases of registered models: `candidate` is the newest, `champion` the one that is used.

MLflow has no compare-and-set for aliases: `promote` looks and then moves, and between the two, a few milliseconds,
another machine could move the alias unseen. Processes of one workspace exclude one another (see `replay.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.tracking.client import open_client, tracking_uri, translated_errors

CANDIDATE, CHAMPION = "candidate", "champion"
JOURNAL = "snapdex.journal"  # tag of what a journal made
DECISION = "snapdex.promotion"  # tag of a version: how its promotion ended


@dataclass(frozen=True)
class Promotion:
    """How a promotion ended. `champion`: the version that has the alias now; `reason`: a sentence."""

    model: str
    version: str
    promoted: bool
    champion: str | None
    reason: str


def champion(model: str) -> str | None:
    """The version with the alias `champion`; None where there is none."""
    with translated_errors(tracking_uri(), f"tell the champion of {model}"):
        return version_of(open_client(), model, CHAMPION)


def promote(model: str, version: str | int, against: str | int | None) -> Promotion:
    """Make the version the champion if the champion is `against` (None: if there is none), which it was compared with.

    Otherwise nothing moves, and the outcome says which champion was set meanwhile. Doing it again changes nothing.
    """
    with translated_errors(tracking_uri(), f"promote {model} {version}"):
        return promote_with(open_client(), model, str(version), None if against is None else str(against))


def promote_with(client: Any, model: str, version: str, against: str | None) -> Promotion:
    present = version_of(client, model, CHAMPION)
    if present == version:
        reason = f"version {version} is the champion"
    elif present == against:
        client.set_registered_model_alias(model, CHAMPION, version)
        reason = f"version {version} is the champion"
    else:
        reason = (
            f"another champion was set meanwhile: version {present or 'none'},"
            f" and the gate compared with {against or 'none'}; version {version} stays a candidate"
        )
        client.set_model_version_tag(model, version, DECISION, reason)
        return Promotion(model, version, False, present, reason)
    client.set_model_version_tag(model, version, DECISION, reason)
    if version_of(client, model, CANDIDATE) == version:
        client.delete_registered_model_alias(model, CANDIDATE)
    return Promotion(model, version, True, version, reason)


def register(
    client: Any, model: str, journal: str, run_id: str, logged: Any, description: str, tags: Mapping[str, str]
) -> str:
    """The version of `model` that the logged model of this journal is, made where there is none yet."""
    from mlflow.exceptions import MlflowException

    found = _versions(client, model, journal, run_id)
    if not found:
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        client.create_model_version(
            model,
            logged.artifact_location,
            run_id=run_id,
            tags={JOURNAL: journal, **tags},
            description=description,
            model_id=logged.model_id,
        )
        found = _versions(client, model, journal, run_id)
    version = found[0]
    for twice in found[1:]:  # MLflow's client sends a request again whose answer was lost
        client.delete_model_version(model, twice.version)
    if version.description != description:
        client.update_model_version(model, version.version, description)
    for name, value in tags.items():
        if version.tags.get(name) != value:
            client.set_model_version_tag(model, version.version, name, value)
    _link(client, logged.model_id, model, int(version.version))
    _nominate(client, model, str(version.version))
    return str(version.version)


def version_of(client: Any, model: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(model, alias).version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:  # no model, no alias
            return None
        raise


def _versions(client: Any, model: str, journal: str, run_id: str) -> list[Any]:
    """Those that this journal made, oldest first: one, unless an answer was lost."""
    found = client.search_model_versions(f"name = '{model}' and run_id = '{run_id}'")
    return sorted((each for each in found if each.tags.get(JOURNAL) == journal), key=lambda each: int(each.version))


def _link(client: Any, model_id: str, model: str, version: int) -> None:
    """Let the logged model know its version, as MLflow's own `register_model` does."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    known = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    this = {"name": model, "version": version}
    if not any(each["name"] == model and int(each["version"]) == version for each in known):
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([*known, this])})


def _nominate(client: Any, model: str, version: str) -> None:
    """Give the alias `candidate`, unless a later version has it, or this one is the champion already."""
    present = version_of(client, model, CANDIDATE)
    if version != version_of(client, model, CHAMPION) and int(present or 0) < int(version):
        client.set_registered_model_alias(model, CANDIDATE, version)
