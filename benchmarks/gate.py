"""How often the gate is right: versions that were spoiled on purpose, and edits that hurt nobody.

SciFact with minilm, all documents that a test claim needs among 600. Each trial is a version that is built and not
published, and the decision about it is that of a run with the default section `gate`. Spoiled: half of the documents
missing, chunks of 18 to 22 tokens, vectors in the wrong order. Harmless: a sentence about nothing in 30 documents.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, kept_or_fresh, say
from pipelines import evaluate, index, ingest
from pipelines.config import Config
from pipelines.evaluate import Evaluation, Query
from pipelines.files import Workspace
from pipelines.index.catalog import get_index, get_space
from pipelines.quality import evaluate_version

DOCUMENTS = 600
EDITED = 30
Record = dict[str, str]


@dataclass(frozen=True)
class Trials:
    """What all trials share."""

    workspace: Workspace
    config: Config
    records: list[Record]
    queries: list[Query]

    def built(self, config: Config, records: Iterable[Record]) -> int:
        path = self.workspace.root / "gate.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
        report = ingest.run(
            config, self.workspace, sources=[str(path)], base=Path("/"), publish=False, allow_mass_delete=True
        )
        return int(report["version"])

    def evaluated(self, config: Config, version: int) -> Evaluation:
        return evaluate_version(config, self.workspace, self.queries, version, exact=True)


def measure(options: Options) -> Report:
    count = 2 if options.quick else 20
    report = Report("gate", f"{count} versions of each kind, SciFact, minilm, default gate")
    with real_data("scifact", options.data) as collection, kept_or_fresh(options.keep, "scifact") as workspace:
        trials = _trials(workspace, collection)
        before = trials.evaluated(trials.config, trials.built(trials.config, trials.records))
        report.add("ndcg@10 before", before.metrics["ndcg@10"])
        kinds = {"half missing": _half, "shuffled vectors": _shuffled, "harmless": _harmless, "small chunks": _small}
        for name, make in kinds.items():
            outcomes = []
            for seed in range(count):
                decision = evaluate.gate(make(trials, random.Random(seed)), before, trials.config.gate)
                say(f"gate: {name} {seed}: {decision['outcome']} {decision['reason']}")
                outcomes.append((decision["outcome"], decision["passed"]))
            harmless = name == "harmless"
            right = [passed is harmless for _, passed in outcomes]
            report.add(f"{name}: {'published' if harmless else 'rejected'}", sum(right), f"of {count}", f"== {count}")
            report.add(f"{name}: undecided", sum(outcome == "undecided" for outcome, _ in outcomes))
    return report


def _trials(workspace: Workspace, collection: Path) -> Trials:
    queries = evaluate.read_golden(collection)
    needed = {item for query in queries for item in query.relevant}
    lines = map(json.loads, (collection / "corpus.jsonl").read_text("utf-8").splitlines())
    all_records = [{name: line[name] for name in ("_id", "title", "text")} for line in lines]
    others = [record for record in all_records if record["_id"] not in needed]
    chosen = random.Random(0).sample(others, DOCUMENTS - len(needed))
    records = [record for record in all_records if record["_id"] in needed] + chosen
    return Trials(workspace, _config("gate"), records, queries)


def _config(name: str, **chunk: int) -> Config:
    return config_of(index={"name": name}, embed={"model": "minilm"}, chunk=chunk)


def _half(trials: Trials, chance: random.Random) -> Evaluation:
    kept = chance.sample(trials.records, DOCUMENTS // 2)
    return trials.evaluated(trials.config, trials.built(trials.config, kept))


def _small(trials: Trials, chance: random.Random) -> Evaluation:
    """Of documents that were edited, too, so that no two trials with chunks of one size are the same."""
    config = _config("gate", max_tokens=chance.randint(18, 22), min_tokens=0)
    return trials.evaluated(config, trials.built(config, _edited(trials, chance)))


def _shuffled(trials: Trials, chance: random.Random) -> Evaluation:
    """In an index of its own, because the vectors of a chunk are shared by all versions."""
    config = _config("gate-shuffled")
    version = trials.built(config, trials.records)
    with index.connect(index.database_url(trials.workspace)) as connection, index.translated_errors():
        opened = get_index(connection, config.index.name)
        space = get_space(connection, index.get_version(connection, opened, version).space)
        table = sql.Identifier(opened.schema, space.table)
        ids = [row[0] for row in connection.execute(sql.SQL("SELECT chunk_id FROM {}").format(table)).fetchall()]
        connection.execute(
            sql.SQL(
                "UPDATE {table} v SET embedding = o.embedding FROM {table} o,"
                " unnest(%s::bigint[], %s::bigint[]) AS moved (target, source)"
                " WHERE v.chunk_id = moved.target AND o.chunk_id = moved.source"
            ).format(table=table),
            [ids, chance.sample(ids, len(ids))],
        )
    return trials.evaluated(config, version)


def _harmless(trials: Trials, chance: random.Random) -> Evaluation:
    return trials.evaluated(trials.config, trials.built(trials.config, _edited(trials, chance)))


def _edited(trials: Trials, chance: random.Random) -> list[Record]:
    edited = set(chance.sample(range(DOCUMENTS), EDITED))
    return [
        record | {"text": record["text"] + " This page was read again by the editors."} if place in edited else record
        for place, record in enumerate(trials.records)
    ]
