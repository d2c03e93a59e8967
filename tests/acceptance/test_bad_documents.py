"""Bad input: quarantined with a stable reason, the rest is indexed, and the last good revision keeps serving."""

import io

import pytest


def encrypted_pdf() -> bytes:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(width=72, height=72)
    writer.encrypt("secret", algorithm="RC4-128")
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def docx(text: str) -> bytes:
    from docx import Document

    document = Document()
    document.add_heading("Memo", 1)
    document.add_paragraph(text)
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def corrupt(data: bytes) -> bytes:
    return data[: len(data) // 2]


BAD = {"bad/half.docx": "corrupt", "bad/locked.pdf": "encrypted", "bad/zero.md": "empty", "bad/blank.txt": "no_text"}


@pytest.fixture(scope="module")
def snapdex(new_workspace, handbook, write_tree, tmp_path_factory):
    workspace = new_workspace("bad")
    bad = {
        "bad/half.docx": corrupt(docx("Half of this memo is missing.")),
        "bad/locked.pdf": encrypted_pdf(),
        "bad/zero.md": b"",
        "bad/blank.txt": b" \n\t\r\n  ",
    }
    memo = {"memo.docx": docx("The canteen opens at seven.")}
    workspace.sources = write_tree(tmp_path_factory.mktemp("tree"), handbook | bad | memo)
    workspace.report = workspace.json("run", workspace.sources)
    return workspace


def test_the_rest_is_indexed_and_the_counts_balance(snapdex):
    documents = snapdex.report["documents"]
    assert (documents["total"], documents["added"], documents["quarantined"]) == (5, 5, 4)
    files = sum(path.is_file() for path in snapdex.sources.rglob("*"))
    assert documents["total"] + documents["quarantined"] + documents["excluded"] == files
    assert "seven" in snapdex.json("search", "when does the canteen open?", "-k", "1")["hits"][0]["text"]


def test_each_has_its_reason(snapdex):
    assert {each["document"]: each["reason"] for each in snapdex.report["quarantined"]} == BAD
    listed = snapdex.json("quarantine", "list")
    assert {each["document"]: each["reason"] for each in listed} == BAD
    assert all(each["detail"] and len(each["content_sha256"]) == 64 for each in listed)
    shown = snapdex("quarantine", "list").stdout
    assert all(document in shown for document in BAD)


def test_strict_says_so_with_its_exit_code(snapdex):
    ending = snapdex("run", snapdex.sources, "--strict", code=3)
    assert "4 documents" in ending.error
    assert ending.stdout.startswith("handbook v1 ")
    assert snapdex.json("run", snapdex.sources)["documents"]["quarantined"] == 4


def test_a_bad_document_is_not_tried_again_until_asked(snapdex):
    assert snapdex.json("run", snapdex.sources)["parsed"] == 0
    assert snapdex.json("quarantine", "retry")["retrying"] == 4
    report = snapdex.json("run", snapdex.sources)
    assert (report["version"], report["published"], report["documents"]["quarantined"]) == (1, False, 4)


def test_the_last_good_revision_keeps_serving(snapdex):
    good = (snapdex.sources / "memo.docx").read_bytes()
    (snapdex.sources / "memo.docx").write_bytes(corrupt(good))
    report = snapdex.json("run", snapdex.sources)
    assert report["documents"]["removed"] == report["documents"]["modified"] == 0
    assert {each["document"]: each["reason"] for each in report["quarantined"]}["memo.docx"] == "corrupt"
    assert report["documents"]["total"] == 5
    hit = snapdex.json("search", "when does the canteen open?", "-k", "1")["hits"][0]
    assert (hit["document"], "seven" in hit["text"]) == ("memo.docx", True)
    (snapdex.sources / "memo.docx").write_bytes(docx("The canteen opens at eight."))
    report = snapdex.json("run", snapdex.sources)
    assert (report["documents"]["modified"], report["documents"]["quarantined"]) == (1, 4)
    assert "eight" in snapdex.json("search", "when does the canteen open?", "-k", "1")["hits"][0]["text"]


def test_a_mended_document_leaves_quarantine(snapdex):
    (snapdex.sources / "bad/zero.md").write_text("# Zero\n\nNo longer empty.\n", "utf-8")
    (snapdex.sources / "bad/half.docx").unlink()
    assert snapdex.json("run", snapdex.sources)["documents"]["quarantined"] == 2
    assert {each["document"] for each in snapdex.json("quarantine", "list")} == {"bad/locked.pdf", "bad/blank.txt"}
    snapdex("quarantine", "show", "bad/zero.md", code=6)


def test_mass_deletion_needs_a_second_word(snapdex, write_tree, tmp_path):
    pages = {f"page-{number:02}.md": f"# Page {number}\n\nText number {number}.\n" for number in range(40)}
    tree = write_tree(tmp_path, pages)
    words = (tree, "--index", "pages")
    snapdex("run", *words)
    for name in list(pages)[:20]:
        (tree / name).unlink()
    for command in ("plan", "run"):
        ending = snapdex(command, *words, code=3)
        assert "20 of 40 documents" in ending.error
        assert "--allow-mass-delete" in ending.hint
    assert snapdex.json("log", "--index", "pages")[0]["documents"] == 40
    planned = snapdex.json("plan", *words, "--allow-mass-delete")
    assert planned["documents"]["removed"] == len(planned["changes"]["removed"]) == 20
    report = snapdex.json("run", *words, "--allow-mass-delete")
    assert (report["documents"]["removed"], report["documents"]["total"]) == (20, 20)
    for name in list(pages)[20:]:
        (tree / name).unlink()
    snapdex("run", *words, code=3)
    assert snapdex.json("search", "text number", "--index", "pages")["version"] == 2


def test_a_few_deletions_need_no_second_word(snapdex, write_tree, tmp_path):
    tree = write_tree(tmp_path, {f"{name}.md": f"# {name}\n\nAbout {name}.\n" for name in "abc"})
    snapdex("run", tree, "--index", "few")
    (tree / "b.md").unlink()
    assert snapdex.json("run", tree, "--index", "few")["documents"]["removed"] == 1
