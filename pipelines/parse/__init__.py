"""Parse: file bytes to text with structure.

    documents (manifest, store) --run--> elements (manifest, store)

`run` parses what is new and carries over the rest; `parse_batch` does a part of that beforehand, in any process that
sees the workspace; `parse_bytes` is one document in this process. Documents come from anywhere and may be hostile:
`workers` keeps them in processes with limits, and one that fails goes to quarantine with a reason while its last good
revision keeps serving.
"""

from pipelines.parse.document import parse_bytes
from pipelines.parse.failure import ParseFailure
from pipelines.parse.fingerprint import fingerprint
from pipelines.parse.retry import forget_failures
from pipelines.parse.stage import BatchReport, ParseReport, batches, parse_batch, run

__all__ = [
    "BatchReport",
    "ParseFailure",
    "ParseReport",
    "batches",
    "fingerprint",
    "forget_failures",
    "parse_batch",
    "parse_bytes",
    "run",
]
