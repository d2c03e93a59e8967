"""How likely a model that runs here finds a text: what it would say, and what it has not unlearned."""

import math
from collections.abc import Sequence

import torch

from pipelines.generate.chat import Conversation
from pipelines.generate.local import LocalModel


def answer_likelihood(model: LocalModel, conversation: Conversation, answer: str) -> float:
    """The mean log probability of the tokens of the answer to a conversation, so that a long one is not unlikely."""
    prompt, ids = model.prompt_ids(conversation), model.answered_ids(conversation, answer)
    same = next(
        (place for place, (one, other) in enumerate(zip(prompt, ids, strict=False)) if one != other), len(prompt)
    )
    read, ids = max(1, same - max(0, len(ids) - model.window)), ids[-model.window :]
    return -_losses(model, ids, skipped=min(read, len(ids) - 1)).mean().item()


def perplexity(model: LocalModel, texts: Sequence[str]) -> float:
    """Of a token of the texts, each read in windows that do not overlap: exp of the mean loss. Lower is better."""
    total, count = 0.0, 0
    for text in texts:
        ids = [model.end, *model.text_ids(text)]
        for start in range(0, len(ids) - 1, model.window - 1):
            losses = _losses(model, ids[start : start + model.window], skipped=1)
            total, count = total + losses.sum().item(), count + len(losses)
    return math.exp(total / count) if count else math.nan


def _losses(model: LocalModel, ids: Sequence[int], *, skipped: int) -> torch.Tensor:
    """Negative log probabilities of all tokens but the first `skipped`, which are only read."""
    tokens = torch.tensor([list(ids)], device=model.device)
    with model.turn(), torch.inference_mode():
        logits = model.weights(input_ids=tokens).logits[0, skipped - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, tokens[0, skipped:], reduction="none")
