"""A question that a passage answers, written by a model."""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from pipelines.generate.chat import Message
from pipelines.generate.writer import Writer

VERSION = 1  # of the words below: a change of them asks anew
LEAST_WORDS = 12  # of a passage: less does not say enough to be asked about
MOST_CHARACTERS = 6000  # of a passage that are shown
ANSWER_TOKENS = 80
QUESTION_WORDS = range(2, 31)
COPIED = 2 / 3  # of the words of a question: finding its passage proves little
RUN = 3  # words in one run that are copied, and not the same by chance

ASK = """Write one question that the passage answers and that a person who has not seen it might ask. \
Use other words than the passage where you can, and name what it is about: no "this passage", no "the text". \
Write the question in the language of the passage, and nothing else."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_MARKS = re.compile(r"^(?:[-*•>#]+|\d+[.)]|q\d*[:.]|question(?: \d+)?:)\s+", re.IGNORECASE)


def passage_of(section: Sequence[str], text: str) -> str:
    """What a model is shown of a chunk."""
    return f"{' > '.join(section)}\n\n{text}"[:MOST_CHARACTERS] if section else text[:MOST_CHARACTERS]


def write_questions(writer: Writer, passages: Iterable[str]) -> dict[str, str]:
    """A question for each passage; empty where what the model wrote is none. The same passage is asked about once."""
    keys = {writer.key(f"question {VERSION}", passage): passage for passage in passages}
    wanted = {key: [Message("system", ASK), Message("user", passage)] for key, passage in keys.items()}
    return {keys[key]: _question(answer) for key, answer in writer.write(wanted, ANSWER_TOKENS).items()}


def is_copied(question: str, passage: str) -> bool:
    """Whether most of a question stands in the passage word for word."""
    asked, said = _words(question), _words(passage)
    runs = SequenceMatcher(None, asked, said, autojunk=False).get_matching_blocks()
    return sum(run.size for run in runs if run.size >= RUN) >= COPIED * len(asked)


def _question(answer: str) -> str:
    """The first line, without marks of lists and quotes around it."""
    line = next((line.strip() for line in answer.splitlines() if line.strip()), "")
    line = _MARKS.sub("", _CONTROL.sub(" ", line)).strip("\"'*“”„« »")
    line = " ".join(line.split())
    return line if len(_words(line)) in QUESTION_WORDS else ""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
