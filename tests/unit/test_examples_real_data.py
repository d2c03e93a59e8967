"""Real sets of examples: what is found in them is there, which somebody has looked at, and nothing else is found."""

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pipelines.config import Config
from pipelines.examples import examples_folder, read_examples
from pipelines.examples.check import check
from pipelines.examples.stage import run
from pipelines.files import Workspace
from pipelines.pairs.check import Checked

if "SNAPDEX_TEST_DATA" not in os.environ:
    pytest.skip("SNAPDEX_TEST_DATA does not name the folder with the real test data", allow_module_level=True)

SNIPS = {
    "type": "object",
    "properties": {
        "intent": {"type": "string"},
        "slots": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["intent", "slots"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    unpack = Path(os.environ["SNAPDEX_TEST_DATA"]) / "tools" / "unpack-data"
    subprocess.run(["bash", unpack, place, "snips-nlu", "mts-dialog", "mtrag"], check=True)
    return place


def lines(checked: Checked, kind: str) -> list[int]:
    return [each.line for each in checked.findings if each.kind == kind]


def test_snips(data: Path) -> None:
    folder = data / "snips-nlu"
    found = check(
        folder / "train-small.jsonl", against=folder / "validate.jsonl", checks={"json_schema": SNIPS}, pii=True
    )
    assert found.counts == Counter(leakage=12, duplicate=13, format=4)
    assert lines(found, "format") == [526, 962, 1014, 1131]  # slots with two values: ["itunes", "Vimeo"]
    found = check(
        folder / "train-full.jsonl.gz", against=folder / "validate.jsonl", checks={"json_schema": SNIPS}, pii=True
    )
    assert found.counts == Counter(leakage=19, duplicate=246, format=61, garbled=2, inconsistent=1)
    assert lines(found, "garbled") == [6377, 6377]  # an emoji of which the bytes were read as Latin-1
    assert lines(found, "inconsistent") == [6708]  # "Play some dance music": a genre here, a playlist in line 6305
    assert found.statistics["rows"] == 13_784


def test_dialogues_of_doctors(data: Path) -> None:
    folder = data / "mts-dialog"
    train = folder / "sft-train.jsonl"
    expected = {"sft-test1.jsonl": [319, 927], "sft-test2.jsonl": [544, 902, 990], "sft-validation.jsonl": [57, 285]}
    for name, leaking in expected.items():
        found = check(train, against=folder / name, pii=True)
        assert found.counts == Counter(leakage=len(leaking), duplicate=1, inconsistent=1)
        assert lines(found, "leakage") == leaking  # 544 has one comma and one word more than line 79 of sft-test2
        assert (lines(found, "duplicate"), lines(found, "inconsistent")) == ([1110], [990])
    found = check(folder / "dpo-human-vs-model.jsonl", pii=True)
    assert found.counts == Counter(duplicate=50, few=1)


def test_grounded_chats(data: Path) -> None:
    chats, preferences = (
        data / "mtrag" / "mtragun-grounded-chat.jsonl.gz",
        data / "mtrag" / "mtrag-human-pref-dpo.jsonl.gz",
    )
    found = check(chats, against=preferences)
    assert found.counts == Counter(leakage=1, garbled=11)
    assert lines(found, "leakage") == [7]  # the conversation of lines 136 and 137 of the preferences
    found = check(preferences, against=chats)
    assert found.counts == Counter(leakage=9, garbled=6, duplicate=1, few=1)
    assert lines(found, "duplicate") == [237]  # another model gave the answer of line 236


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_stage_divides_them(data: Path, tmp_path: Path, kind: str) -> None:
    name = {"sft": "mts-dialog/sft-train.jsonl", "dpo": "mts-dialog/dpo-human-vs-model.jsonl"}[kind]
    section = getattr(Config(), kind).model_copy(update={"data": str(data / name)})
    report = run(Config().model_copy(update={kind: section}), Workspace(tmp_path), "notes", kind)  # type: ignore[arg-type]
    assert report.train + report.held_out + sum(report.dropped.values()) == report.statistics["rows"]
    folder = examples_folder(Workspace(tmp_path), "notes")
    train, held_out = (list(read_examples(folder / side)) for side in ("train.jsonl", "held-out.jsonl"))
    assert train and held_out
    assert check(folder / "train.jsonl", against=folder / "held-out.jsonl").errors == 0
    assert {row.prompt for row in train}.isdisjoint({row.prompt for row in held_out})
