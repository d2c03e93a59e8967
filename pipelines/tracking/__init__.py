"""MLflow: the only package that logs to it, and only where `MLFLOW_TRACKING_URI` says where.

    training --Journal--> log.jsonl, files --sync--> MLflow: a run, a model, a version of it, its aliases
    a version of the index --track--> MLflow: a finished run

- `journal.py`: what a training tells; needs no server, and goes on after a kill
- `replay.py`: journals to MLflow, everything once, whenever it answers
- `steps.py`: what each record of a journal becomes, so that doing it again changes nothing
- `registry.py`: versions and aliases of models       - `saved.py`: a model as MLflow keeps it
- `runs.py`: a finished run in one call               - `client.py`: where MLflow is, and its errors as ours
- `traces.py`: one request, with its spans
- `system.py`: what the machine does                  - `provenance.py`: what a run came from, as tags
"""

from pipelines.tracking.client import is_configured
from pipelines.tracking.journal import Journal, is_ended, open_journal, open_keys
from pipelines.tracking.registry import Promotion, champion, promote
from pipelines.tracking.replay import Synced, sync, synced
from pipelines.tracking.runs import Dataset, Tracked, track
from pipelines.tracking.system import system_metrics
from pipelines.tracking.traces import Step, trace

__all__ = [
    "Dataset",
    "Journal",
    "Promotion",
    "Step",
    "Synced",
    "Tracked",
    "champion",
    "is_configured",
    "is_ended",
    "open_journal",
    "open_keys",
    "promote",
    "sync",
    "synced",
    "system_metrics",
    "trace",
    "track",
]
