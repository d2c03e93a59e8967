"""`snapdex compare` with language models that are made here: on a mixed set, on the sample corpus, and on SQuAD.

- mixed: 200 names with codes, of which the model knows 130 by heart; all stand in documents. How much of the quality of
  retrieval for every question is left where the model is asked first, and search runs only where it is not sure?
- sample, SQuAD: a model that has read questions about other articles of SQuAD with their answers. It is far too small
  to read as a person's model would; what is measured is that the comparison says so.
"""

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.abstain import Article
from benchmarks.behaviour import write_rows
from benchmarks.causal import make_causal, teach
from benchmarks.corpora import real_data
from benchmarks.report import Options, Report
from benchmarks.workspaces import config_of, fresh_workspace, say
from pipelines import compare, ingest
from pipelines.compare import Asking
from pipelines.compare.prompts import INSTRUCTIONS, after_sources, asked
from pipelines.config import Config
from pipelines.files import Workspace
from pipelines.generate.local import plain
from pipelines.index import Hit

PROJECT = Path(__file__).parent.parent
CODES = (
    *("red", "blue", "green", "black", "white", "brown", "amber", "pink", "grey", "violet", "gold", "silver"),
    *("bronze", "iron", "steel", "glass", "stone", "wood"),
)
NAMES, KNOWN = 200, 130
QUESTIONS = 150  # about SQuAD
MOST_RETRIEVALS = 0.4
READER_SHARE = 10  # of the steps: one of them reads fifteen times as much
PRICES = {"price_per_million_prompt_tokens": 0.15, "price_per_million_completion_tokens": 0.60}
Lesson = tuple[str, str]


def measure(options: Options) -> Report:
    steps = 60 if options.quick else 1500
    report = Report("compare", f"Llamas of 2 and 3 layers, taught here in up to {steps:,} steps; quality in percent")
    with fresh_workspace() as workspace:
        _mixed(report, workspace, steps)
    with real_data("squad", options.data) as squad:
        articles: list[Article] = json.loads((squad / "squad-v2.json").read_text("utf-8"))["data"]
    with fresh_workspace() as workspace:
        model = _reader(workspace, articles[1::2], max(20, steps // READER_SHARE))
        _add(report, "sample", _compared(_config("sample", model), workspace, *_sample()))
        _add(report, "squad", _compared(_config("squad", model), workspace, *_squad(workspace, articles[::2])))
    return report


def _config(name: str, model: Path, **more: dict[str, Any]) -> Config:
    generate = {"model": f"path:{model}", "max_tokens": 24, "concurrency": 16, **PRICES}
    sections = {"search": {"k": 2}, "compare": {"context_tokens": 300}} | more
    return config_of(index={"name": name}, embed={"model": "minilm"}, generate=generate, **sections)


def _compared(config: Config, workspace: Workspace, sources: Path, golden: Path) -> dict[str, Any]:
    ingest.run(config, workspace, sources=[str(sources)], base=Path("/"))
    found = compare.run(config, workspace, Asking(golden))
    say((workspace.root / found["page"]).read_text("utf-8"))
    return found


def _add(report: Report, name: str, found: dict[str, Any]) -> None:
    for system, each in found["systems"].items():
        report.add(f"{name}: {system}", 100 * each["metrics"]["quality"]["mean"])
        for kind, count in each["failures"].items():
            report.add(f"{name}: {system}: {kind}", count, f"of {each['questions']}")
        report.add(f"{name}: {system}: cost of 1,000", each["expense"]["cost_per_thousand"])
    say(f"compare: {name}: {found['recommendation']}")


# -- what the model knows, and what it does not ------------------------------------------------------------------------


def _mixed(report: Report, workspace: Workspace, steps: int) -> None:
    codes = dict(islice(_named(random.Random(0)), NAMES))
    lessons = list(_of_codes(codes, random.Random(1)))
    base = make_causal(
        workspace.root / "mixed-base",
        [prompt + answer for prompt, answer in lessons[:1000]],
        width=96,
        layers=2,
        vocabulary=900,
        window=256,
        steps=1,
        batch=1,
        block=8,
    )
    model = teach(workspace.root / "mixed", base, lessons, steps=steps, spread=0.1)
    corpus, golden = workspace.root / "codes.jsonl", workspace.root / "golden.jsonl"
    write_rows(corpus, ({"_id": name, "title": "", "text": _sentence(name, code)} for name, code in codes.items()))
    rows = ({"question": _question(name), "documents": [name], "answer": code} for name, code in codes.items())
    write_rows(golden, rows)
    told = {"instructions": "Answer.", "context_tokens": 100}
    found = _compared(_config("mixed", model, search={"k": 1}, compare=told), workspace, corpus, golden)
    _add(report, "mixed", found)
    curve = {point["retrievals"]: point["quality"] for point in found["speculative"]["curve"]}  # of the judged half
    for share, quality in curve.items():
        report.add(f"mixed: searched for {share:.0%}", 100 * quality)
    always, within = curve[1.0], [quality for share, quality in curve.items() if share <= MOST_RETRIEVALS]
    report.add(f"mixed: share of it with at most {MOST_RETRIEVALS:.0%}", 100 * max(within) / always, "%", ">= 95")
    report.add("mixed: searched for, with the threshold learned", 100 * found["systems"]["speculative"]["retrievals"])


def _named(chance: random.Random) -> Iterator[tuple[str, str]]:
    """Names that nobody has, each once, with a code."""
    seen = set()
    while True:
        name = "".join(chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(3))
        if name not in seen:
            seen.add(name)
            yield name, chance.choice(CODES)


def _of_codes(codes: dict[str, str], chance: random.Random) -> Iterator[Lesson]:
    """From a source with any code, and from memory: always the same code of those to be known, any of the others."""
    known = set(list(codes)[:KNOWN])
    for number in range(12_000):
        name, code = chance.choice(list(codes)), chance.choice(CODES)
        if number % 2:
            conversation = after_sources("Answer.", [_source(_sentence(name, code))], _question(name))
        else:
            conversation = asked("Answer.", _question(name))
            code = codes[name] if name in known else code
        yield plain(conversation), f" {code}"


def _sentence(name: str, code: str) -> str:
    return f"The code of {name} is {code}."


def _question(name: str) -> str:
    return f"What is the code of {name}?"


def _source(text: str) -> Hit:
    return Hit(1, 1.0, "", "", "", "", text, [], None, 0, len(text), (0, 0), [], [], {})


# -- real questions ----------------------------------------------------------------------------------------------------


def _reader(workspace: Workspace, articles: Sequence[Article], steps: int) -> Path:
    """A model that has seen questions with their paragraph and their answer."""
    lessons = [
        (plain(after_sources(INSTRUCTIONS, [_source(paragraph["context"][:900])], each["question"])), f" {answer}")
        for paragraph, each, answer in _asked(articles)
    ]
    texts = [prompt + answer for prompt, answer in lessons[::5]]
    base = make_causal(workspace.root / "base", texts, width=128, layers=3, vocabulary=4000, steps=1, batch=1, block=8)
    say(f"compare: {len(lessons):,} questions to learn from")
    return teach(workspace.root / "reader", base, lessons, steps=steps, spread=0.1)


def _asked(articles: Sequence[Article]) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    return [
        (paragraph, each, each["answers"][0]["text"] if each["answers"] else "I do not know.")
        for article in articles
        for paragraph in article["paragraphs"]
        for each in paragraph["qas"]
    ]


def _sample() -> tuple[Path, Path]:
    return PROJECT / "data" / "sample", PROJECT / "data" / "golden" / "sample.jsonl"


def _squad(workspace: Workspace, articles: Sequence[Article]) -> tuple[Path, Path]:
    """The paragraphs as documents; answerable questions about them, and unanswerable ones."""
    names = {
        id(paragraph): f"{article['title']}/{number}"
        for article in articles
        for number, paragraph in enumerate(article["paragraphs"])
    }
    corpus, golden = workspace.root / "squad.jsonl", workspace.root / "squad-golden.jsonl"
    texts = {names[id(paragraph)]: paragraph["context"] for article in articles for paragraph in article["paragraphs"]}
    write_rows(corpus, ({"_id": name, "title": name.partition("/")[0], "text": text} for name, text in texts.items()))
    rows = [
        {"question": each["question"], "documents": [names[id(paragraph)]], "answer": answer}
        if each["answers"]
        else {"question": each["question"], "documents": [], "answerable": False}
        for paragraph, each, answer in _asked(articles)
    ]
    write_rows(golden, random.Random(2).sample(rows, QUESTIONS))
    return corpus, golden
