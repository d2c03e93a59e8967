"""A world small enough to learn in a second: documents in one language, questions in another, a model that knows none.

There are as many words in each language; the n-th of one means the n-th of the other. A document has three, and a
question about it says the same three. Only who has learned the dictionary finds the document.
"""

import json
import random
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from tests.index.state import State
from tests.small_models import sentence_model

MEANINGS = 12
SYLLABLES = ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se")
OURS = [f"{each}ton" for each in SYLLABLES]  # of documents
THEIRS = [f"{each}vel" for each in SYLLABLES]  # of questions
WORDS = [*OURS, *THEIRS, *(str(number) for number in range(10))]
WIDTH, WINDOW = 32, 64

Combination = tuple[int, ...]


def said(combination: Combination, words: list[str], choose: random.Random) -> str:
    """The meanings in any order, one of them perhaps twice."""
    spoken = [*combination, choose.choice(combination)]
    choose.shuffle(spoken)
    return " ".join(words[meaning] for meaning in spoken)


def make_world(state: State, *settings: str) -> State:
    """Documents of all 220 combinations, questions about 160 to learn from, about 40 others to be judged by."""
    choose = random.Random(7)
    every = list(combinations(range(MEANINGS), 3))
    choose.shuffle(every)
    documents = {f"{'-'.join(map(str, each))}.txt": said(each, OURS, choose) for each in every}
    state.write(documents)

    def questions(path: Path, about: list[Combination]) -> None:
        rows = [
            {"question": said(each, THEIRS, choose), "documents": [f"{'-'.join(map(str, each))}.txt"]} for each in about
        ]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")

    questions(state.root / "train.jsonl", every[:160])
    questions(state.root / "golden.jsonl", every[160:200])
    base = sentence_model(state.root / "base", WORDS, width=WIDTH, window=WINDOW, seed=3)
    return state.with_settings(*SETTINGS, f"embed.model=path:{base}", *settings)


SETTINGS = (
    "embed.threads=1",  # what they would divide is too little
    "search.mode=dense",
    "gate.golden=golden.jsonl",
    "pairs.judgements=train.jsonl",
    "pairs.mined=0",
    "finetune.learning_rate=0.005",
    "finetune.epochs=10",
    "finetune.evaluations=1",
)


def write_off_domain(directory: Path, texts: Mapping[str, str], questions: Mapping[str, str]) -> Path:
    """A BEIR directory; `questions`: to the id of the text that answers them."""
    directory.mkdir(parents=True)
    corpus = [{"_id": id, "title": "", "text": text} for id, text in texts.items()]
    queries = [{"_id": str(number), "text": text} for number, text in enumerate(questions)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (directory / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    judged = "".join(f"{number}\t{id}\t1\n" for number, id in enumerate(questions.values()))
    (directory / "qrels").mkdir()
    (directory / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
    return directory
