"""How many tokens a text and a conversation have for a model: exactly where it runs here, else an upper estimate."""

from collections.abc import Callable

from pipelines.generate.chat import Conversation, LanguageModel
from pipelines.generate.endpoint import EndpointModel
from pipelines.models.tokens import ESTIMATE


def counters(loaded: LanguageModel) -> tuple[Callable[[str], int], Callable[[Conversation], int]]:
    """(of a text, of a conversation)."""
    if isinstance(loaded, EndpointModel):
        return _estimated, lambda conversation: sum(_estimated(each.content) for each in conversation)
    from pipelines.generate.local import LocalModel

    assert isinstance(loaded, LocalModel)
    return (
        lambda text: len(loaded.text_ids(text)),
        lambda conversation: len(loaded.prompt_ids(conversation)),
    )


def _estimated(text: str) -> int:
    return sum(1 for _ in ESTIMATE.finditer(text))
