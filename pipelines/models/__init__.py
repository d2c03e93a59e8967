"""Which model a configuration means, and how it counts tokens. No weights are loaded here.

    embed.model  --resolve_model-->  EmbeddingModel  --load_tokenizer-->  TokenCounter     (chunk needs these two)
                                                     --load_encoder-->    Encoder          (pipelines.embed)

- `resolve.py`: the forms of a model name
- `folder.py`: a directory of a model: refused if unsafe, hashed, described
- `reranker.py`: cross-encoders, which score a query and a passage together
- `generator.py`: language models, which write (loaded by `pipelines.generate`)
- `hosted.py`: one that was fine-tuned at a server and stays there
- `tokens.py`: counting tokens
- `service.py`: any server with OpenAI's API; `endpoint.py`: its embeddings
"""

from pipelines.models.embedding_model import EmbeddingModel
from pipelines.models.generator import Generator, resolve_generator
from pipelines.models.reranker import LATE_INTERACTION, Reranker, resolve_reranker
from pipelines.models.resolve import pinned, resolve_model
from pipelines.models.tokens import TokenCounter, load_tokenizer

__all__ = [
    "LATE_INTERACTION",
    "EmbeddingModel",
    "Generator",
    "Reranker",
    "TokenCounter",
    "load_tokenizer",
    "pinned",
    "resolve_generator",
    "resolve_model",
    "resolve_reranker",
]
