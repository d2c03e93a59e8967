"""Workspaces, made by `snapdex init`, each with an embedded server of its own."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from program import Snapdex

from pipelines.index.server import EmbeddedServer

MODEL = "hash:384"  # a deterministic encoder: these tests are about versions, not about relevance


@pytest.fixture(scope="module")
def new_workspace(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Snapdex]]:
    """Makes workspaces; their servers are stopped at the end of the module."""
    made: list[Snapdex] = []

    def make(name: str = "workspace") -> Snapdex:
        root = tmp_path_factory.mktemp(name) / "handbook"
        shutil.copytree(template, root)
        made.append(Snapdex(root))
        made[-1].edit_params(lambda text: text.replace("model: minilm", f"model: {MODEL}"))
        assert MODEL in (root / "params.yaml").read_text("utf-8")
        return made[-1]

    yield make
    for workspace in made:
        EmbeddedServer(workspace.root / ".snapdex").stop()


@pytest.fixture(scope="session")
def write_tree() -> Callable[[Path, Mapping[str, str | bytes]], Path]:
    """Writes files, given as {path: content}, below a directory, and gives the directory."""

    def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return root

    return write


@pytest.fixture(scope="session")
def handbook() -> dict[str, str]:
    """A small corpus: Markdown and text with what makes offsets hard (accents, emoji, CRLF, front matter)."""
    return {
        "guides/failover.md": (
            "---\ntitle: Database failover\nowner: Plattform-Über\n---\n\n# Database failover\n\n"
            "Naïve ☕ readers first. The booking database has one primary and two replicas.\n\n"
            "## Promote the replica\n\nStop the primary, then run `pg_ctl promote` on the replica in Zürich.\n\n"
            "## Tell people\n\nWrite to the status page 🚨 before you touch anything.\n"
        ),
        "guides/refunds.md": (
            "# Refunds\n\n## Limits\n\nA support agent may refund up to 250 euros without asking.\n\n"
            "## Exceptions\n\nLarger refunds need the signature of the finance lead.\n"
        ),
        "notes/glossary.txt": "Glossary\r\n\r\nDrayage: the short haul between port and warehouse.\r\n\r\n"
        "Demurrage: what a shipper pays when a container stays too long.\r\n",
        "notes/contacts.html": "<html><head><title>Contacts</title></head><body><h1>Contacts</h1>"
        "<p>The duty manager answers on extension 4711.</p></body></html>",
    }
