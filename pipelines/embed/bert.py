"""BERT encoders (MiniLM, BGE, E5, GTE and their fine-tuned children) in plain PyTorch, without padding.

Why not through sentence-transformers, which is the way of all other models here: a search is one cold process, and
importing that library takes four times as long as everything else together. And without padding no text can change the
vector of another: the texts of a batch are laid end to end, and each attends to itself only.
The arithmetic is that of `transformers.BertModel`; a test compares the two.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from pipelines.models.folder import pooling_modes, read_json, read_modules

POOLINGS = ("mean", "cls")

# Matrix products of fewer than 12 rows take another path in MKL and round differently, so short batches are filled up:
# then a text has the same vector, bit for bit, alone and in any batch (measured on x86).
SMALLEST_BATCH_TOKENS = 32


def is_plain_bert(directory: Path, *, prefixed: bool) -> bool:
    """Whether `Bert` computes this model: absolute positions, GELU, mean or first-token pooling, no further layer."""
    config = read_json(directory, "config.json", optional=True)
    modules = read_modules(directory)
    if [module.kind for module in modules] not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return False
    pooling = read_json(directory, f"{modules[1].place}/config.json")
    return (
        config.get("model_type") == "bert"
        and config.get("architectures") == ["BertModel"]
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and pooling_modes(pooling) in ([mode] for mode in POOLINGS)
        and (pooling.get("include_prompt", True) or not prefixed)
        and modules[0].place == ""
        and (directory / "model.safetensors").is_file()
    )


class Bert:
    """The weights of one model, and the function from token ids to vectors."""

    def __init__(self, directory: Path, device: str) -> None:
        config = read_json(directory, "config.json")
        modules = read_modules(directory)
        weights = load_file(directory / "model.safetensors", device=device)
        self._weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._layers = int(config["num_hidden_layers"])
        self._pooling = pooling_modes(read_json(directory, f"{modules[1].place}/config.json"))[0]
        self._normalise = modules[-1].kind == "Normalize"
        self._device = device

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """[n, d] float32 for token ids with special tokens, in the same order."""
        parts = self._states(texts)
        pooled = torch.stack([part.mean(0) if self._pooling == "mean" else part[0] for part in parts])
        return F.normalize(pooled, dim=1) if self._normalise else pooled

    @torch.inference_mode()
    def tokens(self, texts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Per text [tokens, d] float32 of length 1 each: what every token means where it stands, the special ones at
        both ends left out."""
        return [F.normalize(states[1:-1], dim=1) for states in self._states(texts)]

    def _states(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        """Per text [tokens, d]."""
        count = len(texts)
        if (missing := SMALLEST_BATCH_TOKENS - sum(map(len, texts))) > 0:
            texts = [*texts, [0] * missing]
        sizes = [len(ids) for ids in texts]
        ids = torch.tensor([each for ids in texts for each in ids], device=self._device)
        positions = torch.cat([torch.arange(size, device=self._device) for size in sizes])
        states = self._embedded(ids, positions)
        for layer in range(self._layers):
            states = self._layer(f"encoder.layer.{layer}", states, sizes)
        parts: tuple[Tensor, ...] = torch.split_with_sizes(states, sizes)
        return parts[:count]

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        weights = self._weights
        return self._norm(
            "embeddings.LayerNorm",
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.token_type_embeddings.weight"][0]
            + weights["embeddings.position_embeddings.weight"][positions],
        )

    def _layer(self, name: str, states: Tensor, sizes: list[int]) -> Tensor:
        query, key, value = (
            self._linear(f"{name}.attention.self.{role}", states).view(len(states), self._heads, -1).transpose(0, 1)
            for role in ("query", "key", "value")
        )
        attended = torch.cat(list(self._attended(query, key, value, sizes)))
        states = self._norm(
            f"{name}.attention.output.LayerNorm", self._linear(f"{name}.attention.output.dense", attended) + states
        )
        inner = F.gelu(self._linear(f"{name}.intermediate.dense", states))
        return self._norm(f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", inner) + states)

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, sizes: list[int]) -> Iterable[Tensor]:
        """Per text [size, d], from [heads, all tokens, d / heads]."""
        for q, k, v in zip(*(torch.split_with_sizes(each, sizes, 1) for each in (query, key, value)), strict=True):
            yield F.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).flatten(1)

    def _linear(self, name: str, states: Tensor) -> Tensor:
        return F.linear(states, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(states, (states.shape[-1],), weight, bias, self._epsilon)
