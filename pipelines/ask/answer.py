"""What `ask` gives back."""

from dataclasses import asdict, dataclass, field
from typing import Any

EXTRACTIVE = "extractive"  # the name of the model where there is none


@dataclass(frozen=True)
class Citation:
    """`quote` is a verbatim slice of the chunk, whose text is `text`, and its place in the document's text is from
    `start` to `end`."""

    marker: str  # as in the answer, without brackets
    document: str
    chunk: str
    page: int | None
    section: list[str]
    quote: str
    text: str
    start: int
    end: int
    content_sha256: str
    revision: str
    also_in: list[str]  # other documents that hold the same chunk


@dataclass(frozen=True)
class Sentence:
    """A sentence of the answer, without its markers. `supported`: whether a cited passage says it."""

    text: str
    markers: list[str]
    supported: bool


@dataclass(frozen=True)
class Conflict:
    """Two passages that say different things about the question, each in a quote."""

    markers: tuple[str, str]
    quotes: tuple[str, str]


@dataclass(frozen=True)
class Nearest:
    """A document that search found, whether or not it was cited."""

    document: str
    section: list[str]
    score: float


@dataclass(frozen=True)
class Answer:
    """`model`: the name of the model that wrote it, or `extractive`; `queries`: what was searched for; none where the
    model was sure enough without. Tokens are 0 where no model wrote."""

    index: str
    version: int
    snapshot: str
    question: str
    answer: str
    abstained: bool
    reason: str  # of an abstention
    calibrated: bool  # whether the version has learned when nothing relevant is there
    citations: list[Citation]
    sentences: list[Sentence]
    conflicts: list[Conflict]
    nearest: list[Nearest]
    queries: list[str]
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0  # in the currency of the prices in `generate`
    seconds: float = 0.0
    search_seconds: float = 0.0
    model_seconds: float = 0.0  # of the model that wrote it, or that compared sentences with the question
    shown: list[str] = field(default_factory=list)  # chunks that the answer could have come from

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"tokens": self.tokens}
