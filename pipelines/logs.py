"""What happened as JSON, one object an event, with the ids that lead to the version and the runs that made it.

With `SNAPDEX_LOG=json` the command line writes one for each finished stage and for its end to stderr; flows write the
same into the log of their run. Numbers and ids are in them, and no text of documents or queries.
"""

import dataclasses
import json
import logging
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pipelines.errors import ConfigError

LOGGER = logging.getLogger("snapdex")
IDS = ("index", "version", "snapshot", "prefect_run", "mlflow_run")
_ABOUT: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]


def about(**ids: Any) -> None:
    """What the events from here on are about, as far as they do not say it themselves."""
    _ABOUT.set({**(_ABOUT.get() or {}), **ids})


def event(name: str, *, log: Log = LOGGER, level: int = logging.INFO, **facts: Any) -> None:
    """Log that something happened; an id that is not known yet is null. The message is JSON whoever formats it."""
    known = _ABOUT.get() or {}
    fields = {"event": name} | {each: facts.pop(each, known.get(each)) for each in IDS} | facts
    log.log(level, json.dumps(fields, ensure_ascii=False, default=str), extra={"snapdex": fields})


def stage_finished(stage: str, report: object, **facts: Any) -> None:
    """The event of a stage, with every number of its report."""
    values = {each.name: getattr(report, each.name) for each in dataclasses.fields(report)}  # type: ignore[arg-type]
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    event("stage.finished", **{"stage": stage, **numbers, **facts})


def wanted() -> bool:
    """Whether `SNAPDEX_LOG` asks for JSON. Raises `ConfigError` where it asks for something else."""
    value = os.environ.get("SNAPDEX_LOG", "")
    if value not in ("", "json"):
        raise ConfigError(f"SNAPDEX_LOG is {value!r}", hint="json, or nothing")
    return value == "json"


def to_stderr() -> None:
    """Write events, and what libraries warn of, as JSON lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    LOGGER.setLevel(logging.INFO)


class Lines(logging.Formatter):
    """A record as one line of JSON; a message of somebody else becomes an event of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "snapdex", None) or {"event": "message", "message": record.getMessage()}
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps({"at": at, "level": record.levelname.lower(), **fields}, ensure_ascii=False, default=str)
