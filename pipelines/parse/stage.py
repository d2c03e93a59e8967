"""The stage: parse what is new, carry over the rest, write the manifest last."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines import media
from pipelines.config import Config
from pipelines.files import Manifest, Workspace, read_manifest
from pipelines.manifests import ElementsRow, element_key, elements_rows, read_documents
from pipelines.model import Document, Quarantined, Reason, batched
from pipelines.parse.document import parse_bytes
from pipelines.parse.failure import ParseFailure, failure
from pipelines.parse.fingerprint import fingerprint
from pipelines.parse.plan import Previous, Source, limits_text, make_plan
from pipelines.parse.workers import Job, WorkerPool
from pipelines.progress import Progress, Silent

FLUSH_SECONDS = 15.0  # of work that a crash may cost: more often would leave more small segments


@dataclass(frozen=True)
class ParseReport:
    parsed: int  # contents parsed in this run
    reused: int  # documents that needed no parsing: unchanged, renamed, copied or reverted
    kept: int  # documents whose present bytes fail and whose last good revision keeps serving
    quarantined: list[Quarantined]  # every document whose present bytes fail, the kept ones included
    seconds: float


@dataclass(frozen=True)
class BatchReport:
    """What became of a batch of documents, by element key."""

    parsed: frozenset[bytes]
    failed: dict[bytes, ParseFailure]


def batches(config: Config, workspace: Workspace) -> list[tuple[str, ...]]:
    """What `run` would parse now, as batches of about `flow.batch_documents` contents: `SHA-256 media type` of each."""
    todo = _todo(config, workspace, recompute=False)
    wanted = sorted(f"{s.content_sha256} {s.media_type}" for s in todo.wanted.values())
    return [tuple(batch) for batch in batched(wanted, config.flow.batch_documents)]


def parse_batch(config: Config, workspace: Workspace, batch: Sequence[str]) -> BatchReport:
    """Put the elements of a batch into the store: for any process that sees the workspace. `run` then finds them."""
    parser = fingerprint(config.parse)
    sources = [Source(*each.split(" ", 1)) for each in batch]
    work = _Work(config, workspace, Silent())
    failed = work.parse({element_key(s.content_sha256, s.media_type, parser): s for s in sources})
    return BatchReport(frozenset(work.done), failed)


def run(
    config: Config,
    workspace: Workspace,
    *,
    recompute: bool = False,
    progress: Progress | None = None,
    done: Sequence[BatchReport] = (),
) -> ParseReport:
    """Bring `elements` up to date with `documents`; `done`: the batches that were parsed for this run elsewhere.

    The work is proportional to the change: known content is not parsed again under any name. With `recompute` the
    store is checked for every document and what it lacks is parsed again. Raises `InputError` where the bytes of a
    document that has to be parsed are not in the store.
    """
    started = time.monotonic()
    todo = _todo(config, workspace, recompute)
    parser, documents, previous = todo.parser, todo.documents, todo.previous
    work = _Work(config, workspace, progress or Silent())
    failed = dict(todo.failed)
    for report in done:
        work.done.update(report.parsed)
        failed |= report.failed
    failed |= work.parse({key: source for key, source in todo.wanted.items() if key not in failed})
    lost = failed | work.parse(_fallbacks(documents, previous, parser, failed, recompute), optional=True)
    rows = [_row(d, parser, previous.rows.get(d.uri), failed, lost) for d in documents]
    Manifest("elements", {"parser": parser, "limits": limits_text(config.parse)}, [r.to_row() for r in rows]).write(
        workspace.manifest(config.index.name, "elements")
    )

    quarantined = [row.quarantined for row in rows if row.quarantined]
    return ParseReport(
        parsed=len(work.done),
        reused=len(documents) - len(quarantined) - work.documents_parsed(documents, parser),
        kept=sum(row.state == "kept" for row in rows),
        quarantined=quarantined,
        seconds=round(time.monotonic() - started, 3),
    )


@dataclass(frozen=True)
class _Todo:
    parser: str
    documents: list[Document]
    previous: Previous
    wanted: dict[bytes, Source]
    failed: dict[bytes, ParseFailure]


def _todo(config: Config, workspace: Workspace, recompute: bool) -> _Todo:
    parser = fingerprint(config.parse)
    documents = read_documents(workspace, config.index.name)
    manifest = read_manifest(workspace.manifest(config.index.name, "elements"), "elements")
    previous = Previous(
        {row.uri: row for row in elements_rows(manifest)} if manifest else {},
        manifest.facts.get("limits", "") if manifest else "",
    )
    same_parser = manifest is not None and manifest.facts.get("parser") == parser
    plan = make_plan(documents, previous, same_parser, parser, config.parse)
    wanted = dict(plan.wanted)
    if recompute:
        wanted |= {
            key: Source(d.content_sha256, d.media_type)
            for d in documents
            if (key := element_key(d.content_sha256, d.media_type, parser)) in plan.known
        }
    return _Todo(parser, documents, previous, wanted, plan.failed)


def _fallbacks(
    documents: list[Document],
    previous: Previous,
    parser: str,
    failed: dict[bytes, ParseFailure],
    recompute: bool,
) -> dict[bytes, Source]:
    """Last good revisions that another parser made: this one should read them too, so that a recipe is one recipe."""
    sources = {}
    for document in documents:
        row = previous.rows.get(document.uri)
        if row and row.element_key and element_key(document.content_sha256, document.media_type, parser) in failed:
            key = element_key(row.content_sha256, row.media_type, parser)
            if key not in failed and (recompute or key != row.element_key):
                sources[key] = Source(row.content_sha256, row.media_type)
    return sources


def _row(
    document: Document,
    parser: str,
    before: ElementsRow | None,
    failed: dict[bytes, ParseFailure],
    lost: dict[bytes, ParseFailure],
) -> ElementsRow:
    key = element_key(document.content_sha256, document.media_type, parser)
    error = failed.get(key)
    if error is None:
        return ElementsRow(document.uri, document.content_sha256, document.media_type, "ok", key)
    failed_columns = (document.content_sha256, error.reason, error.detail)
    if before and before.element_key:
        kept = element_key(before.content_sha256, before.media_type, parser)
        if kept in lost:  # this parser cannot read it; what the one before it made still serves
            kept = before.element_key
        if kept not in lost:
            return ElementsRow(document.uri, before.content_sha256, before.media_type, "kept", kept, *failed_columns)
    return ElementsRow(document.uri, document.content_sha256, document.media_type, "quarantined", None, *failed_columns)


class _Work:
    """Parses sources into the store, each content once, and counts."""

    def __init__(self, config: Config, workspace: Workspace, progress: Progress) -> None:
        self._config = config.parse
        self._scratch = (workspace.scratch or workspace.state) / "parse"
        self._documents = workspace.store("documents")
        self._elements = workspace.store("elements")
        self._progress = progress
        self.done: set[bytes] = set()

    def documents_parsed(self, documents: list[Document], parser: str) -> int:
        """Of these documents, how many are the first with a content that was parsed now."""
        return len(self.done & {element_key(d.content_sha256, d.media_type, parser) for d in documents})

    def parse(self, sources: dict[bytes, Source], *, optional: bool = False) -> dict[bytes, ParseFailure]:
        """Put the elements of all `sources` that the store lacks into it; the failures by key.

        With `optional`, a source whose bytes the store does not have is a failure and not an error.
        """
        missing = self._elements.missing(sources)
        failed: dict[bytes, ParseFailure] = {}
        jobs: dict[bytes, list[tuple[bytes, str]]] = {}
        for key in sorted(missing):
            jobs.setdefault(bytes.fromhex(sources[key].content_sha256), []).append((key, sources[key].media_type))
        if optional and jobs:
            for content in self._documents.missing(jobs):
                absent = failure(Reason.UNREADABLE, "the bytes are not in the store")
                failed |= {key: absent for key, _ in jobs.pop(content)}
        if not jobs:
            return failed
        if not optional:
            self._progress.start("parse", sum(len(each) for each in jobs.values()))
        with self._elements.writer() as writer:
            flushed = time.monotonic()
            for key, result in self._results(jobs):
                if isinstance(result, ParseFailure):
                    failed[key] = result
                else:
                    writer.add(key, result)
                    self.done.add(key)
                if not optional:
                    self._progress.advance()
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    writer.flush()
                    flushed = time.monotonic()
        return failed

    def _results(self, jobs: dict[bytes, list[tuple[bytes, str]]]) -> Iterator[tuple[bytes, bytes | ParseFailure]]:
        """Key and result of each job as it is done. Only formats that need a parser library get worker processes."""
        here = {content for content, each in jobs.items() if all(media_type == media.BEIR for _, media_type in each)}
        for content, data in self._documents.read(here):
            for key, media_type in jobs[content]:
                yield key, self._parse_here(data, media_type)
        if len(here) == len(jobs):
            return
        contents = self._documents.read(jobs.keys() - here)
        with WorkerPool(self._config, self._scratch) as pool:
            for outcome in pool.outcomes(
                Job(key, media_type, data) for content, data in contents for key, media_type in jobs[content]
            ):
                yield outcome.key, outcome.result

    def _parse_here(self, data: bytes, media_type: str) -> bytes | ParseFailure:
        try:
            return parse_bytes(data, media_type, self._config).to_json().encode("utf-8")
        except ParseFailure as error:
            return error
