"""Late interaction: query and passage are read apart, and then each token of the query looks for its like.

The score of a passage is the mean, over the tokens of the query, of the cosine with the most similar token of the
passage (MaxSim of ColBERT; Khattab and Zaharia 2020). The tokens are those of the model that embeds the chunks, which
was not trained for it; docs/measurements.md says what it is worth all the same.
"""

from collections.abc import Sequence

from pipelines.embed.encoders import Encoder, TokenEncoder
from pipelines.errors import ConfigError


def late_scores(encoder: Encoder, query: str, passages: Sequence[str], *, name: str) -> list[float]:
    """For each passage 0 to 1. Raises `ConfigError` where the model `name` tells nothing about tokens."""
    if not isinstance(encoder, TokenEncoder):
        raise ConfigError(
            f"{name} tells nothing about single words, so it cannot put hits in order",
            hint="set search.reranker to a cross-encoder: path:DIR, hf:NAME@COMMIT or mlflow:MODEL@ALIAS",
        )
    asked = encoder.tokens([query], queries=True)[0]
    if not len(asked):
        return [0.0] * len(passages)
    return [
        max(0.0, float((asked @ read.T).max(axis=1).mean())) if len(read) else 0.0 for read in encoder.tokens(passages)
    ]
