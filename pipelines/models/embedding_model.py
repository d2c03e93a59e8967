"""What is known about an embedding model without loading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.model import canonical_json, digest


@dataclass(frozen=True)
class EmbeddingModel:
    """An embedding model at one revision: enough to cut chunks for it and to name its vectors, without its weights.

    `revision` says what the weights are: for files a SHA-256 over those that shape vectors, so a renamed directory is
    the same model and an edited one is not.
    """

    name: str  # as in `embed.model`
    kind: Literal["folder", "hash", "endpoint"]
    revision: str  # 64 hex digits
    dimension: int
    max_tokens: int  # the window, special tokens included
    normalised: bool
    tokenizer_fingerprint: str  # 64 hex digits: what shapes token counts, and so chunks; covers the passage prefix
    query_prefix: str = ""
    passage_prefix: str = ""
    precision: Literal["float16"] = "float16"  # of stored vectors
    directory: Path | None = None

    @property
    def space(self) -> str:
        """64 hex digits: vectors with the same space may be compared, all others never."""
        facts = [
            self.revision,
            self.dimension,
            self.max_tokens,
            self.normalised,
            self.query_prefix,
            self.passage_prefix,
            self.precision,
        ]
        return digest("space 1", canonical_json(facts)).hex()

    @property
    def special_tokens(self) -> int:
        """Tokens that every embedded text has beyond its own: the model's special ones and the passage prefix."""
        from pipelines.models.tokens import load_tokenizer

        return load_tokenizer(self).special_tokens
