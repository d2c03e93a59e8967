"""What is sent and what is answered, for OpenAPI; sizes that parameters decide are checked in `routes.py`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_VECTOR = 16_000  # numbers; what pgvector holds

Mode = Literal["hybrid", "dense", "lexical"]
Expand = Literal["chunk", "section", "neighbours"]
Scalar = str | int | float | bool | None
VersionName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
        description="A version: `v3`, `3`, a tag, `active`, or the beginning of a snapshot id.",
        examples=["v2"],
    ),
]


class Search(BaseModel):
    """What both forms of a search have. What is left out is as the section `search` of params.yaml says."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, description="What is looked for.", examples=["how do I fail over the database?"])
    k: int | None = Field(None, ge=1, le=10_000, description="How many hits; the service may allow fewer.")
    at: VersionName | None = Field(None, description="Search this version instead of the active one.")
    mode: Mode | None = Field(
        None, description="`dense` compares meanings, `lexical` counts words, `hybrid` does both."
    )
    mmr: bool | None = Field(None, description="Prefer hits that say something else than better ones.")
    rerank: bool | None = Field(None, description="Let a cross-encoder put the best hits in order.")
    expand: Expand | None = Field(None, description="Show the section around a hit, or the chunks beside it.")


class SearchInUrl(Search):
    """A search as `GET /search`."""

    filter: list[str] = Field(
        [],
        description="`KEY=VALUE`, metadata that a hit must have; repeat it for more. `document=PATTERN` with `*`.",
        examples=[["document=policies/*"]],
    )


class SearchInBody(Search):
    """A search as `POST /search`: nothing of it stands in a URL, so in no log of a proxy."""

    filter: dict[str, Scalar] = Field(
        {},
        description="Metadata that a hit must have; `document` is a pattern with `*`.",
        examples=[{"language": "en"}],
    )
    vector: list[Annotated[float, Field(allow_inf_nan=False)]] | None = Field(
        None,
        min_length=1,
        max_length=LONGEST_VECTOR,
        description="The query as the model of the version embeds it; then the service runs no model. `query` is still "
        "needed: its words decide about abstaining, and in `hybrid` mode they are searched.",
    )


class Question(BaseModel):
    """What is asked. What is left out is as the sections `search` and `ask` of params.yaml say."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, description="In the language of the documents.", examples=["Who is on call?"])
    k: int | None = Field(None, ge=1, le=10_000, description="Passages to retrieve; the service may allow fewer.")
    at: VersionName | None = Field(None, description="Ask this version instead of the active one.")
    mode: Mode | None = Field(None, description="Of the search.")
    filter: dict[str, Scalar] = Field({}, description="Metadata of passages; `document` is a pattern with `*`.")
    stream: bool = Field(False, description="Answer as server-sent events, while the model writes.")


class CitationShape(BaseModel):
    """What a marker stands for."""

    marker: str = Field(description="As in the answer, without brackets.")
    document: str
    chunk: str
    page: int | None
    section: list[str]
    quote: str = Field(description="Verbatim from the chunk; not safe to use as HTML.")
    text: str = Field(description="Of the chunk, so the quote in its context; not safe to use as HTML.")
    start: int
    end: int
    content_sha256: str
    revision: str
    also_in: list[str]


class SentenceShape(BaseModel):
    text: str
    markers: list[str]
    supported: bool = Field(description="Whether a cited passage says it.")


class ConflictShape(BaseModel):
    """Two passages that say different things."""

    markers: tuple[str, str]
    quotes: tuple[str, str]


class NearestShape(BaseModel):
    document: str
    section: list[str]
    score: float


class AnswerShape(BaseModel):
    """All citations are of one version."""

    index: str
    version: int
    snapshot: str
    question: str
    answer: str = Field(description="With markers: `[1]` stands for a citation, `[?]` for nothing that supports it.")
    abstained: bool = Field(description="The documents do not answer the question.")
    reason: str = Field(description="Of an abstention.")
    calibrated: bool = Field(description="The version has learned when nothing relevant is there.")
    citations: list[CitationShape]
    sentences: list[SentenceShape]
    conflicts: list[ConflictShape]
    nearest: list[NearestShape]
    queries: list[str] = Field(description="What was searched for.")
    model: str = Field(description="That wrote it; `extractive`: none did, the answer is quoted.")
    prompt_tokens: int
    completion_tokens: int
    tokens: int
    cost: float
    seconds: float
    search_seconds: float
    model_seconds: float = Field(
        description="Of the model that wrote it, or that compared sentences with the question."
    )
    shown: list[str] = Field(description="Chunks that the answer could have come from.")


class HitShape(BaseModel):
    """A chunk that was found, and what leads from it back to its source."""

    rank: int
    score: float = Field(description="Cosine similarity (dense), BM25 (lexical), or the fusion of both.")
    document: str = Field(description="URI within the corpus.")
    content_sha256: str
    revision: str
    chunk: str
    text: str = Field(description="As it stands in the document; not safe to use as HTML.")
    section: list[str]
    page: int | None
    start: int
    end: int
    parent: tuple[int, int] = Field(description="The section around it, as a range of the same text.")
    also_in: list[str] = Field(description="Other documents that hold the same chunk.")
    similar: list[str] = Field(description="Documents of hits that were left out because they say nearly the same.")
    metadata: dict[str, Any]


class ResultShape(BaseModel):
    """All hits are of one version."""

    index: str
    version: int
    snapshot: str
    query: str
    mode: Mode
    abstained: bool = Field(description="Nothing in this version is relevant, whatever the hits are.")
    hits: list[HitShape]


class SpaceShape(BaseModel):
    model: str
    revision: str
    dimension: int


class VersionShape(BaseModel):
    version: int
    snapshot: str
    parent: int | None
    created_at: datetime
    active: bool
    tags: list[str]
    documents: int
    chunks: int
    space: SpaceShape
    recipe: str
    metrics: dict[str, Any] | None
    calibration: dict[str, Any] | None
    gate: dict[str, Any] | None
    git_commit: str | None
    dvc_md5: str | None
    prefect_run: str | None
    mlflow_run: str | None


class DocumentsShape(BaseModel):
    added: list[str]
    removed: list[str]
    modified: list[str]
    renamed: list[tuple[str, str]] = Field(description="From, to.")


class CountsShape(BaseModel):
    added: int
    removed: int


class DiffShape(BaseModel):
    """What changed from one version to another."""

    model_config = ConfigDict(populate_by_name=True)

    from_: int = Field(alias="from")
    to: int
    documents: DocumentsShape
    chunks: CountsShape


class HealthShape(BaseModel):
    status: Literal["ok", "unavailable"]
    index: str
    database: bool
    version: int | None = Field(description="The active one.")
    snapshot: str | None
    error: str | None = None
    hint: str | None = None
