"""The versioned index in Postgres: build, seal, publish, roll back, search.

    server.py    the embedded server           load.py      rows in, insert-only       search.py    queries
    db.py        connections and errors        seal.py      rows to a version          history.py   log, show, diff
    migrate.py   the schema                    build.py     manifests to a version     publish.py   the pointer
    catalog.py   indexes, spaces, versions     forecast.py  what a state would change  quarantine.py

The SQL of search lives in sql/functions.sql, because readers in other languages call it too.
"""

from pipelines.index.build import BuildReport
from pipelines.index.build import run as build
from pipelines.index.catalog import check_parameters
from pipelines.index.db import connect, database_url
from pipelines.index.forecast import Forecast, forecast
from pipelines.index.loading import WORTH_A_PROCESS, Loading
from pipelines.index.migrate import migrate
from pipelines.index.publish import Move, publish, rollback
from pipelines.index.reader import Reader, open_index
from pipelines.index.search import Hit, Result, search

__all__ = [
    "WORTH_A_PROCESS",
    "BuildReport",
    "Forecast",
    "Hit",
    "Loading",
    "Move",
    "Reader",
    "Result",
    "build",
    "check_parameters",
    "connect",
    "database_url",
    "forecast",
    "migrate",
    "open_index",
    "publish",
    "rollback",
    "search",
]
