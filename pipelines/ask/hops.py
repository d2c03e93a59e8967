"""A question in several steps: what has to be found first is searched for by itself."""

import re

from pipelines.generate import Message

RULES = """Split the question into the simple questions that have to be answered first, one on each line, without \
numbers and without anything else. If it is simple already, repeat it."""
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
LONGEST = 500  # characters


def split(question: str) -> list[Message]:
    """The conversation that asks for the steps."""
    return [Message("system", RULES), Message("user", question)]


def steps_of(text: str, question: str, most: int) -> list[str]:
    """What else to search for: at most so many steps from what a model wrote."""
    lines = [_BULLET.sub("", line).strip() for line in text.splitlines()]
    steps = [line for line in lines if line and len(line) <= LONGEST and line.casefold() != question.casefold()]
    return list(dict.fromkeys(steps))[:most]
