"""What `snapdex chunks` finds, in documents where each thing occurs a known number of times."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chunk import blocks, markdown

from pipelines import chunk
from pipelines.chunk.findings import Findings, examine
from pipelines.cli.app import cli
from pipelines.config import ChunkConfig, Config, EmbedConfig
from pipelines.errors import InputError
from pipelines.files import Manifest, Workspace
from pipelines.manifests import ChunksRow, ElementsRow, element_key, read_chunks, read_elements
from pipelines.model import Element, ElementKind, Parsed, Revision, digest, revision_key

CHUNK = ChunkConfig(max_tokens=32, min_tokens=8, context="none")
CONFIG = Config(chunk=CHUNK, embed=EmbedConfig(model="hash:16"))
SENTENCE = "The gateway answers every request that a client sends."  # 10 tokens


def elements(workspace: Workspace, documents: Mapping[str, Parsed]) -> None:
    """What the parse stage would have written."""
    rows = []
    with workspace.store("elements").writer() as writer:
        for uri, parsed in documents.items():
            content = digest(parsed.to_json()).hex()
            key = element_key(content, "text/markdown", "parser")
            writer.add(key, parsed.to_json().encode())
            rows.append(ElementsRow(uri, content, "text/markdown", "ok", key).to_row())
    Manifest("elements", {"parser": "parser"}, rows).write(workspace.manifest("handbook", "elements"))


def found(workspace: Workspace, documents: Mapping[str, str | Parsed], worst: int = 3) -> Findings:
    elements(workspace, {uri: markdown(each) if isinstance(each, str) else each for uri, each in documents.items()})
    chunk.run(CONFIG, workspace)
    return examine(CONFIG, workspace, worst=worst)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_good_chunks_have_no_findings(workspace: Workspace) -> None:
    findings = found(
        workspace, {"a": f"# Gateway\n\n{SENTENCE} {SENTENCE}\n\n## Limits\n\nNone of them is fixed here."}
    )
    assert (findings.documents, findings.chunks, findings.histogram[-1][1]) == (1, 1, 1)
    for finding in (findings.small, findings.cut_sentences, findings.headings, findings.no_section):
        assert (finding.count, finding.examples) == (0, [])
    assert (findings.duplicates, findings.groups, findings.empty) == (0, [], [])


def test_small_chunks_the_smallest_first(workspace: Workspace) -> None:
    findings = found(workspace, {"a": "# A\n\nOne two three.", "b": "# B\n\nOne.", "c": f"# C\n\n{SENTENCE}"})
    assert findings.small.count == 2
    assert [(each.document, each.size) for each in findings.small.examples] == [("b", 4), ("a", 6)]


def test_a_sentence_of_many_words_is_cut(workspace: Workspace) -> None:
    long = "# A\n\n" + " ".join(f"word{i}" for i in range(100)) + "."
    findings = found(workspace, {"a": long, "b": f"# B\n\n{' '.join([SENTENCE] * 10)}", "c": "- item\n" * 60})
    assert (
        findings.cut_sentences.count
        == findings.chunks - sum(row.n_chunks for row in read_chunks(workspace, "handbook")[1] if row.uri != "a") - 1
    ), "all chunks of `a` but the last, and none of whole sentences or items"
    first = findings.cut_sentences.examples[0]
    assert first.document == "a"
    assert first.text == long[first.start : first.end]


def test_a_paragraph_that_a_page_divides_is_a_cut_sentence(workspace: Workspace) -> None:
    halves = [" ".join(f"{name}{i}" for i in range(25)) for name in ("first", "second")]
    text = "\n\n".join(halves)
    paragraphs = [(0, len(halves[0])), (len(halves[0]) + 2, len(text))]
    parsed = Parsed(text, tuple(Element(ElementKind.PARAGRAPH, *each, section=("S",)) for each in paragraphs))
    findings = found(workspace, {"a": parsed})
    assert (findings.chunks, findings.cut_sentences.count, findings.no_section.count) == (2, 1, 0)


def test_headings_without_their_text(workspace: Workspace) -> None:
    """The cutter leaves none behind; they come from documents that have nothing else, or end so."""
    ending = f"# B\n\n{SENTENCE}\n\n## Later"
    findings = found(workspace, {"alone": "# Nothing yet", "b": ending, "c": f"# C\n\n{SENTENCE}"})
    assert (findings.headings.count, findings.headings_alone) == (2, 1)
    assert [each.document for each in findings.headings.examples] == ["alone", "b"]


def test_duplicates_are_counted_over_documents_sections_and_copies(workspace: Workspace) -> None:
    notice = " ".join(["Do not share this page with anybody who does not work here at present."] * 2)
    body = {name: f"# {name}\n\n" + " ".join(f"{name}{i}" for i in range(28)) + "." for name in ("x", "y")}
    texts = {name: f"{text}\n\n# Notice\n\n{notice}" for name, text in body.items()}
    findings = found(workspace, {**texts, "copy of x": texts["x"]})
    assert findings.chunks == 6
    assert (findings.duplicates, findings.duplicated_texts) == (3, 2)
    largest = findings.groups[0]
    assert (largest.times, [uri for uri, _ in largest.places]) == (3, ["copy of x", "x", "y"])
    assert largest.text.endswith(notice)


def test_tables_and_code_whole_and_divided_the_longest_first(workspace: Workspace) -> None:
    def table(rows: int) -> str:
        return "| a | b |\n|---|---|\n" + "\n".join(f"| {i} | v{i} |" for i in range(rows))

    code = "```\n" + "\n".join(f"x{i} = {i}" for i in range(30)) + "\n```"
    findings = found(
        workspace,
        {"long": f"# L\n\n{table(40)}", "short": f"# S\n\n{table(10)}\n\n{code}", "tiny": f"# T\n\n{table(1)}"},
    )
    assert (findings.tables.whole, findings.tables.divided.count) == (1, 2)
    assert [each.document for each in findings.tables.divided.examples] == ["long", "short"]
    assert findings.tables.divided.examples[0].size == len(table(40))
    assert findings.tables.divided.examples[0].parts > findings.tables.divided.examples[1].parts > 1
    assert (findings.code.whole, findings.code.divided.count) == (0, 1)


def test_what_has_no_section_and_what_has_no_chunk(workspace: Workspace) -> None:
    """A document without text goes to quarantine before it is chunked: this one is written by hand."""
    findings = found(workspace, {"plain": SENTENCE})
    assert (findings.no_section.count, findings.no_section.examples[0].document) == (1, "plain")
    assert findings.empty == []
    elements(workspace, {"empty": Parsed("", ())})
    nothing, (row,) = Revision(()), read_elements(workspace, "handbook")[1]
    key = revision_key(row.content_sha256, row.media_type, "recipe")
    with workspace.store("chunks").writer() as writer:
        writer.add(key, nothing.to_json().encode())
    empty = ChunksRow(row.uri, row.content_sha256, row.media_type, key, 0, nothing.chunks_sha256)
    Manifest("chunks", {"recipe": "recipe"}, [empty.to_row()]).write(workspace.manifest("handbook", "chunks"))
    findings = examine(CONFIG, workspace)
    assert (findings.documents, findings.chunks, findings.tokens["max"], findings.empty) == (1, 0, 0, ["empty"])


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), blocks, min_size=1), st.integers(0, 4))
def test_counts_balance_with_the_manifests(tmp_path_factory: pytest.TempPathFactory, parts: dict, worst: int) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("balance"))
    documents = {uri: markdown("\n\n".join(each)) for uri, each in parts.items()}
    findings = found(workspace, documents, worst)
    rows = read_chunks(workspace, "handbook")[1]
    assert findings.documents == len(rows)
    assert findings.chunks == sum(row.n_chunks for row in rows) == sum(count for _, count in findings.histogram)
    every = [each for parsed in documents.values() for each in parsed.elements]
    for kind, seen in ((ElementKind.TABLE, findings.tables), (ElementKind.CODE, findings.code)):
        assert seen.whole + seen.divided.count == sum(each.kind is kind for each in every)
    for finding in (findings.small, findings.cut_sentences, findings.headings, findings.no_section):
        assert len(finding.examples) <= min(worst, finding.count) <= finding.count <= findings.chunks
    assert findings.headings_alone <= findings.headings.count
    assert findings.duplicates >= findings.duplicated_texts >= len(findings.groups)
    shutil.rmtree(workspace.root)


def test_manifests_of_two_states_are_refused(workspace: Workspace) -> None:
    found(workspace, {"a": f"# A\n\n{SENTENCE}"})
    elements(workspace, {"a": markdown(f"# A\n\nNot. {SENTENCE}")})
    with pytest.raises(InputError, match="two states"):
        examine(CONFIG, workspace)
    with pytest.raises(InputError, match="there is no"):
        examine(CONFIG, Workspace(workspace.root / "nowhere"))


def test_the_command_prints_the_same_for_people_and_programs(workspace: Workspace) -> None:
    found(workspace, {"a": "- item\n" * 60, "b": "# B\n\nOne."})
    (workspace.root / "params.yaml").write_text("chunk: {max_tokens: 32, min_tokens: 8}\n")
    call = ["chunks", "--home", str(workspace.root), "--worst", "1"]
    report = json.loads(CliRunner().invoke(cli, [*call, "--json"]).stdout)
    assert report["small"]["count"] == 1
    assert report["small"]["examples"][0]["document"] == "b"
    printed = CliRunner().invoke(cli, call).stdout
    assert f"2 documents, {report['chunks']} chunks" in printed
    assert "b:0-9 4 tokens  # B One." in printed
