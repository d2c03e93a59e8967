"""Nothing phones home: the libraries beneath are asked not to tell their makers who uses them."""

import os

SILENT = {
    "DO_NOT_TRACK": "1",  # Prefect, MLflow, unstructured, Hugging Face
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SCARF_NO_ANALYTICS": "true",  # unstructured
}


def be_silent() -> None:
    """For this process and those that it starts, before they import such a library. A variable that is set stays."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
