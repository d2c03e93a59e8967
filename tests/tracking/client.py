"""A real MLflow store without a server."""

import os
import warnings
from pathlib import Path
from typing import Any


def client_of(directory: Path) -> Any:
    """A client of a store in SQLite that has its tables, below `directory`."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own code, on import
        import mlflow
        import mlflow.sentence_transformers

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow.db")
        client.search_experiments()
    return client
