"""A real MLflow store without a server."""

import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any


def client_of(directory: Path) -> Any:
    """A client of a store in SQLite that has its tables, below `directory`."""
    shutil.copyfile(_empty_store(), directory / "mlflow.db")
    return _client(directory)


@cache
def _empty_store() -> Path:
    """Its tables take seconds to make, a copy does not."""
    directory = Path(tempfile.mkdtemp(prefix="snapdex-mlflow-"))
    _client(directory).search_experiments()
    return directory / "mlflow.db"


def _client(directory: Path) -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own code, on import
        import mlflow
        import mlflow.sentence_transformers

        return mlflow.MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow.db")
