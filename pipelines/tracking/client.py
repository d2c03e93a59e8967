"""Where MLflow is, and its errors as ours."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, InputError, ServiceUnavailable, SnapdexError

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # this and the next: by themselves, minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_AGAIN = {408, 429}  # statuses that say "not now"; all others of 400 to 499 say "not this"


def is_configured() -> bool:
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def tracking_uri() -> str:
    if not is_configured():
        raise ConfigError("there is no MLflow to log to", hint="set MLFLOW_TRACKING_URI, or start one: snapdex up")
    return os.environ["MLFLOW_TRACKING_URI"]


def open_client() -> Any:
    """An `MlflowClient` of the server or database that `MLFLOW_TRACKING_URI` names. Its errors are MLflow's."""
    uri = tracking_uri()
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


@contextmanager
def translated_errors(uri: str, what: str, *, hint: str = "check MLFLOW_TRACKING_URI") -> Iterator[None]:
    """`ServiceUnavailable` where MLflow does not answer, `InputError` where it answers that it will not do it."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SnapdexError:
        raise
    except (MlflowException, SQLAlchemyError, OSError) as error:
        said = said_by(error)
        status = error.get_http_status_code() if isinstance(error, MlflowException) else 503
        if 400 <= status < 500 and status not in _AGAIN:
            raise InputError(f"MLflow at {without_password(uri)} refuses to {what}: {said}", hint=hint) from error
        raise ServiceUnavailable(f"MLflow at {without_password(uri)} does not answer: {said}", hint=hint) from error


def experiment_id(client: Any, name: str) -> str:
    """The experiment of that name, made where there is none."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, _artifacts(client.tracking_uri)))
    except MlflowException:
        if found := client.get_experiment_by_name(name):  # another process was faster, or an answer was lost
            return str(found.experiment_id)
        raise


def page_of(uri: str, experiment: str, run_id: str) -> str | None:
    """The page of a run, where there is a server."""
    return f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}" if uri.startswith("http") else None


def said_by(error: BaseException) -> str:
    """The message in one line; MLflow's own names the whole address, password included."""
    return re.sub(r"://[^/\s]*@", "://", " ".join(str(error).split()))[:200]


def without_password(uri: str) -> str:
    scheme, colon, rest = uri.partition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2]}"


def _artifacts(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside a database in a file. MLflow would put them where we run now."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else (Path(path).resolve().parent / "mlartifacts").as_uri()
