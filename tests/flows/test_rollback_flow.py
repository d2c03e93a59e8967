"""The rollback flow: shown first, then done, and logged with who and why."""

import pytest

from pipelines.config import load_config
from pipelines.errors import ConflictError, NotFoundError
from pipelines.ingest import run
from pipelines.operate import plan_rollback


def test_it_shows_what_changes_and_logs_who_and_why(workspace, snapdex, api):
    from flows.rollback import move_pointer, rollback

    run(load_config(workspace.params), workspace)
    with pytest.raises(NotFoundError):
        rollback(str(workspace.root))
    (workspace.root / "docs" / "notes" / "glossary.txt").unlink()
    (workspace.root / "docs" / "guides" / "new.md").write_text("# New\n\nA page.\n", "utf-8")
    run(load_config(workspace.params), workspace)
    planned = plan_rollback(load_config(workspace.params), workspace)
    done = rollback(str(workspace.root), reason="the glossary is missing", actor="ada")
    assert (done["version"], done["previous"]) == (1, 2)
    move = snapdex("log", "--moves")[0]
    assert (move["kind"], move["version"], move["actor"]) == ("rollback", 1, "ada")
    assert move["reason"] == "the glossary is missing"
    (page,) = api.artifacts("rollback-handbook")
    assert "# handbook: v2 back to v1" in page
    assert "+ notes/glossary.txt" in page and "- guides/new.md" in page and "the glossary is missing" in page
    (event,) = api.events("snapdex.version.rolled_back")
    assert (event["payload"]["version"], event["payload"]["previous"], event["payload"]["actor"]) == (1, 2, "ada")
    with pytest.raises(ConflictError):
        rollback(str(workspace.root), version="v1")
    with pytest.raises(ConflictError):  # the pointer has moved since: what was shown is what happens, or nothing
        move_pointer.fn(workspace, planned)
    rollback(str(workspace.root), version="v2")
    assert snapdex("log", "--moves")[0]["version"] == 2
