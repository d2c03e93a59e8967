"""verify finds what somebody changed behind Snapdex's back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import NotFoundError
from pipelines.verify import verify
from tests.conftest import Databases
from tests.index.state import State

ONE_CHUNK = "(SELECT id FROM chunk ORDER BY key LIMIT 1)"


@pytest.fixture(scope="module")
def original(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        state = State.make(tmp_path_factory.mktemp("verify") / "workspace", url)
        state.write({f"{n}.md": f"# Title {n}\n\nText number {n} of this corpus.\n" for n in range(4)}).run()
        assert state.problems() == []
        yield state


@pytest.fixture
def sealed(original: State, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """One version of four documents, to be damaged."""
    with databases(like=original.url) as url:
        monkeypatch.setenv("SNAPDEX_DATABASE_URL", url)
        yield original.copy(tmp_path / "workspace", url)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (f"UPDATE chunk SET text = text || '.' WHERE id = {ONE_CHUNK}", "its text is not what its key says"),
        (f"UPDATE chunk SET context = 'Other' WHERE id = {ONE_CHUNK}", "its text is not what its key says"),
        (f"DELETE FROM chunk WHERE id = {ONE_CHUNK}", "is missing"),
        (f"DELETE FROM occurrence WHERE chunk_id = {ONE_CHUNK}", "its chunks are not those that were loaded"),
        (f"DELETE FROM vectors_1 WHERE chunk_id = {ONE_CHUNK}", "lacks its vector"),
        (f"DELETE FROM lexical WHERE chunk_id = {ONE_CHUNK}", "lacks its term weights"),
        ("UPDATE membership SET leaf = sha256('x') WHERE document = '1.md'", "document 1.md"),
        ("UPDATE membership SET document = '9.md' WHERE document = '1.md'", "the rows give snapshot"),
        ("DELETE FROM membership WHERE document = '1.md'", "3 documents, the version says 4"),
        ("UPDATE membership SET to_version = 1 WHERE document = '1.md'", "3 documents, the version says 4"),
        ("DELETE FROM revision WHERE id = 1", "the rows give snapshot"),
        ("UPDATE revision SET title = 'Another' WHERE id = 1", "its chunks are not those that were loaded"),
        ("UPDATE revision SET metadata = '{\"price\": 1}' WHERE id = 1", "its chunks are not those that were loaded"),
        ("UPDATE revision SET content_sha256 = sha256('x') WHERE id = 1", "its revision is not the one"),
        ("UPDATE occurrence SET page = 7 WHERE revision_id = 1", "its chunks are not those that were loaded"),
        ("UPDATE occurrence SET section = '{Elsewhere}' WHERE revision_id = 1", "its chunks are not those"),
        ("UPDATE snapdex.version SET recipe = 'other'", "the rows give snapshot"),
        ("UPDATE snapdex.version SET chunks = chunks + 1", "distinct chunks, the version says"),
    ],
)
def test_damage_is_found(sealed: State, damage: str, said: str) -> None:
    sealed.execute(damage)
    problems = sealed.problems(1)
    assert any(said in problem for problem in problems), problems


def test_damage_to_one_version_is_not_laid_on_another(sealed: State) -> None:
    sealed.write({"4.md": "# Title 4\n\nOnly in the second version.\n"}).run()
    sealed.execute("UPDATE chunk SET text = 'gone' WHERE text LIKE '%Only in the second%'")
    assert sealed.problems(1) == [] and sealed.problems(2) != []


def test_where_nothing_is_active_it_says_what_to_do(sealed: State, databases: Databases) -> None:
    """A fresh database has no index, or one whose versions nobody has published."""
    with databases() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNAPDEX_DATABASE_URL", url)
        with pytest.raises(NotFoundError, match="there is no index handbook") as caught:
            verify(sealed.config, sealed.workspace, "active")
        assert "snapdex restore" in caught.value.hint
        fresh = State(sealed.root, url, sealed.config)
        fresh.run(publish=False)
        with pytest.raises(NotFoundError, match="no version of index handbook is active") as caught:
            verify(fresh.config, fresh.workspace, "active")
        assert "snapdex publish" in caught.value.hint and caught.value.exit_code == 6
        assert verify(fresh.config, fresh.workspace, "v1")["ok"]
