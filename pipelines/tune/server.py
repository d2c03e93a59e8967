"""A server with OpenAI's files and fine-tuning jobs. What is there already is found, and never made twice."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipelines.config import GenerateConfig
from pipelines.models.service import Purpose, Service, base_url, key_for

FILES, JOBS = "/files", "/fine_tuning/jobs"
PURPOSE = "fine-tune"  # of a file
MARK = "snapdex"  # key of a job's metadata, with the fingerprint of what is trained
PAGE = 100  # entries of a list that are asked for at a time
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
ENDED = (SUCCEEDED, FAILED, CANCELLED)
USELESS = ("error", "deleted")  # files
REFUSAL_HINT = "check that the server fine-tunes this model, and what it says of the examples and parameters"


@dataclass(frozen=True)
class Job:
    """`model`: what the server calls the result; `problem`: why it failed, in its words; `seconds`: once it ended."""

    id: str
    status: str
    model: str
    problem: str
    seconds: float


class FineTuning:
    """A client of one server for one base model. Use as a context; every method raises what `Service.post` does."""

    def __init__(self, config: GenerateConfig, base: str, model_key: str) -> None:
        """base: as the server calls it; model_key: the parameter that names it."""
        url = base_url(config.endpoint)
        purpose = Purpose("generate", "fine-tuning", base, REFUSAL_HINT, model_key)
        key, limit = key_for(url, "generate"), config.requests_per_minute
        self._service = Service(url, purpose, key, limit, timeout_seconds=config.timeout_seconds)
        self.shown = self._service.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.close()

    def file(self, path: Path, name: str, known: str = "") -> str:
        """The id of the file that the server has under this name, or as `known`; uploaded where there is none."""

        def there() -> Any:
            for each in self._listed(FILES, purpose=PURPOSE):
                if (each["id"] == known or each.get("filename") == name) and each.get("status") not in USELESS:
                    return each
            return None

        found = self._service.upload(FILES, path, name, {"purpose": PURPOSE}, made=there)
        return self._with_id(found, "a file")

    def create(self, body: dict[str, Any]) -> Job:
        """A job of this body. One that has its mark, or its training file, goes on instead, unless it was in vain."""

        def there() -> Any:
            found = (each for each in self._listed(JOBS) if each.get("status") not in (FAILED, CANCELLED))
            ours = [each for each in found if _is_of(each, body)]
            return min(ours, key=lambda each: int(each.get("created_at") or 0), default=None)

        return self._job(self._service.post(JOBS, body, made=there))

    def job(self, job: str) -> Job:
        return self._job(self._service.get(f"{JOBS}/{job}"))

    def events(self, job: str, known: Container[str]) -> Sequence[dict[str, Any]]:
        """What the server told of the job since those that are `known`, the oldest first."""
        fresh = []
        for each in self._listed(f"{JOBS}/{job}/events"):  # the newest first
            if each["id"] in known:
                break
            fresh.append(each)
        return fresh[::-1]

    def said(self, text: str) -> str:
        return self._service.said(text)

    def _listed(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """All entries of a list, each with its id, in the order of the server."""
        after: dict[str, str] = {}
        while True:
            page = self._service.get(path, **query, **after, limit=PAGE)
            rows = page.get("data") if isinstance(page, dict) else None
            if not isinstance(rows, list):
                raise self._service.wrong("something else than a list")
            for row in rows:
                self._with_id(row, "a list of such")
            yield from rows
            if not rows or not page.get("has_more") or after == {"after": rows[-1]["id"]}:
                return
            after = {"after": rows[-1]["id"]}

    def _job(self, raw: Any) -> Job:
        job, status, error = self._with_id(raw, "a job"), str(raw.get("status")), raw.get("error")
        model = raw.get("fine_tuned_model") or ""
        if status == SUCCEEDED and not (isinstance(model, str) and model):
            raise self._service.wrong(f"the job {job}, which succeeded without a model")
        problem = str(error.get("message") or error.get("code") or "") if isinstance(error, dict) else ""
        times = raw.get("created_at"), raw.get("finished_at")
        began, ended = (each if isinstance(each, int | float) else 0 for each in times)
        return Job(job, status, str(model), self.said(problem), float(max(0, ended - began)) if ended else 0.0)

    def _with_id(self, raw: Any, what: str) -> str:
        found = raw.get("id") if isinstance(raw, dict) else None
        if not isinstance(found, str) or not found:
            raise self._service.wrong(f"something else than {what}")
        return found


def _is_of(job: dict[str, Any], body: dict[str, Any]) -> bool:
    """Whether the server made this job of that body, also a server that keeps no metadata."""
    marked = (job.get("metadata") or {}).get(MARK) == body["metadata"][MARK]
    return bool(marked or job.get("training_file") == body["training_file"])
