"""Cross-encoders: a query and a passage read together, which tells more than their two vectors, and costs much more."""

from collections.abc import Sequence

import torch

from pipelines.models import Reranker

BATCH_PAIRS = 16


class CrossEncoder:
    """A model that scores pairs. The same pair scores the same to about six digits, whatever is scored beside it."""

    def __init__(self, model: Reranker) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer  # importing them writes files

        kept = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(str(model.directory), **kept)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            str(model.directory), use_safetensors=True, **kept
        ).eval()
        self._max_tokens = model.max_tokens

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        """0 to 1 for each passage; one that is too long for the model is read from its beginning."""
        found: list[float] = []
        for start in range(0, len(passages), BATCH_PAIRS):
            batch = list(passages[start : start + BATCH_PAIRS])
            pairs = self._tokenizer(
                [query] * len(batch),
                batch,
                truncation="only_second",
                max_length=self._max_tokens,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                found += torch.sigmoid(self._model(**pairs).logits[:, 0]).tolist()
        return found
