"""The maintain flow: forget by policy, prune, verify."""

import pytest

from pipelines.config import load_config
from pipelines.errors import IntegrityError
from pipelines.index.db import connect
from pipelines.ingest import locked, run

KEEP_ONE = ["retention.keep_last=1", "retention.keep_daily=0"]


def test_it_forgets_prunes_and_verifies_and_waits_for_a_run(workspace, database, snapdex, api):
    from flows.maintain import maintain

    run(load_config(workspace.params), workspace)
    (workspace.root / "docs" / "notes" / "glossary.txt").unlink()
    run(load_config(workspace.params), workspace)
    snapdex("search", "refund")
    with connect(database) as connection:
        connection.execute("UPDATE snapdex.retrieval_log SET at = at - interval '91 days'")
    planned = maintain(str(workspace.root), dry_run=True, overrides=KEEP_ONE)
    assert planned["prune"]["rows"]["retrieval_log"] == 1
    assert planned["forget"]["forget"] == [1]
    assert len(snapdex("log")) == 2
    done = maintain(str(workspace.root), overrides=KEEP_ONE)
    assert done["forget"] == planned["forget"]
    assert done["prune"]["rows"]["retrieval_log"] == 1
    assert (done["verify"]["version"], done["verify"]["ok"]) == (2, True)
    assert [version["version"] for version in snapdex("log")] == [2]
    after, before = api.artifacts("maintain-handbook")
    assert all("| retrieval_log | 1 rows |" in page for page in (after, before))
    assert "| v1 | forget |" in after and "| v2 | keep | active" in after and "1 versions gone" in after
    assert "would go (dry run)" in before

    with locked(workspace):
        assert maintain(str(workspace.root), wait_seconds=0.1, return_state=True).name == "Skipped"
    segment = next((workspace.root / "data" / "store" / "elements").glob("*.parquet"))
    segment.chmod(0o644)
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        maintain(str(workspace.root))
