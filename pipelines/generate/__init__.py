"""generate: language models behind one interface, whether they run here or at a server.

    generate.model  --resolve_generator-->  Generator  --load_generator-->  LanguageModel  -->  Completion

- `chat.py`: what is said to a model, and what it answers
- `local.py`: models from a directory, through transformers
- `endpoint.py`: servers with OpenAI's chat completions
- `kept.py`: answers that are kept, so that nothing is asked twice
"""

from pipelines.config import GenerateConfig
from pipelines.generate.chat import Completion, Conversation, LanguageModel, Message, cost
from pipelines.generate.kept import KeptAnswers
from pipelines.models import Generator

__all__ = [
    "Completion",
    "Conversation",
    "KeptAnswers",
    "LanguageModel",
    "Message",
    "cost",
    "load_generator",
]


def load_generator(model: Generator, config: GenerateConfig) -> LanguageModel:
    """The model, ready to write; close it after use. Nothing heavy is imported for a model at an endpoint.

    Raises `ConfigError` where it cannot be loaded: an adapter without PEFT, OpenAI without a key.
    """
    if model.kind == "endpoint":
        from pipelines.generate.endpoint import EndpointModel

        return EndpointModel(model, config)
    from pipelines.generate.local import LocalModel

    return LocalModel(model, config)
