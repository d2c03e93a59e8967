"""What stops a run before readers lose documents, or get a worse version."""

import json
import shutil

import pytest

from pipelines import ingest
from pipelines.errors import GateFailed, InputError
from tests.index.state import WORDS, State


def corpus(state: State, count: int = 24) -> State:
    return state.write(
        {f"d{i}.md": f"# Note {i}\n\nThe {WORDS[i % 12]} {WORDS[i // 2]} is number {i}." for i in range(count)}
    )


def test_a_lost_manifest_does_not_turn_an_incomplete_source_into_deletions(state: State) -> None:
    corpus(state).run()
    shutil.rmtree(state.root / "data")  # as in a fresh clone, or after a cleaned workspace
    for number in range(4, 24):
        state.path(f"d{number}.md").unlink()
    with pytest.raises(InputError, match="20 of 24 documents would be removed"):
        ingest.run(state.config, state.workspace)
    assert state.version("active").documents == 24
    assert ingest.run(state.config, state.workspace, allow_mass_delete=True)["documents"]["removed"] == 20


def test_documents_that_all_fail_do_not_empty_the_index(state: State) -> None:
    state.write({"a.txt": " \n ", "b.txt": "\n"})
    with pytest.raises(InputError, match="not one document could be processed"):
        ingest.run(state.config, state.workspace)


def test_a_worse_version_is_sealed_and_not_published(state: State) -> None:
    corpus(state)
    rows = [{"question": f"{WORDS[i % 12]} {WORDS[i // 2]} number {i}", "documents": [f"d{i}.md"]} for i in range(24)]
    (state.root / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    gated = state.with_settings("gate.golden=golden.jsonl", "search.mode=lexical")
    assert gated.run()["gate"] is None, "there is nothing to compare the first version with"
    gated.write({"more.md": "# More\n\nSomething harmless about nothing else."})
    passed = gated.run()
    assert passed["gate"]["passed"]
    assert passed["published"]
    for number in range(12, 24):
        gated.path(f"d{number}.md").unlink()
    with pytest.raises(GateFailed) as caught:
        gated.run()
    assert caught.value.exit_code == 7
    assert state.version("active").number == 2
    assert [version.number for version in state.versions()] == [1, 2, 3]
