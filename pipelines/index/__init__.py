"""The versioned index in Postgres: build, seal, publish, roll back, search.

    server.py    the embedded server           load.py      rows in, insert-only       search.py    queries
    db.py        connections and errors        seal.py      rows to a version          history.py   log, show, diff
    migrate.py   the schema                    build.py     manifests to a version     publish.py   the pointer
    catalog.py   indexes, spaces, versions     forecast.py  what a state would change  quarantine.py
    reader.py    search from Python            retrievals.py  the log of searches

The SQL of search lives in sql/functions.sql, because readers in other languages call it too.
"""

from pipelines.index.build import BuildReport, read_recorded
from pipelines.index.build import run as build
from pipelines.index.catalog import (
    Version,
    check_parameters,
    find_index,
    find_version,
    get_index,
    get_space,
    get_version,
    raise_last_version,
)
from pipelines.index.db import connect, database_url, translated_errors
from pipelines.index.deep import verify_deep
from pipelines.index.forecast import Forecast, forecast
from pipelines.index.loading import WORTH_A_PROCESS, Loading
from pipelines.index.migrate import migrate
from pipelines.index.prune import Garbage, garbage, prune
from pipelines.index.publish import Move, publish, rollback
from pipelines.index.reader import Reader, open_index
from pipelines.index.retention import NeededRevisions, needed_revisions
from pipelines.index.seal import leaf_of, snapshot_of
from pipelines.index.search import Hit, Result, search
from pipelines.index.verify import verify

__all__ = [
    "WORTH_A_PROCESS",
    "BuildReport",
    "Forecast",
    "Garbage",
    "Hit",
    "Loading",
    "Move",
    "NeededRevisions",
    "Reader",
    "Result",
    "Version",
    "build",
    "check_parameters",
    "connect",
    "database_url",
    "find_index",
    "find_version",
    "forecast",
    "garbage",
    "get_index",
    "get_space",
    "get_version",
    "leaf_of",
    "migrate",
    "needed_revisions",
    "open_index",
    "prune",
    "publish",
    "raise_last_version",
    "read_recorded",
    "rollback",
    "search",
    "snapshot_of",
    "translated_errors",
    "verify",
    "verify_deep",
]
