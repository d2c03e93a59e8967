"""BERT models of a few kilobytes with random weights, made from a seed: nobody has to download one."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = ("gate", "opens", "six", "seven", "tea", "refund")
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def sentence_model(
    directory: Path, words: Sequence[str] = WORDS, *, width: int = 8, window: int = 32, seed: int = 0
) -> Path:
    """An embedding model with `width` dimensions, as sentence-transformers saves one."""
    torch.manual_seed(seed)
    BertModel(_size(words, width, window)).save_pretrained(directory)
    _tokenizer(words, window).save_pretrained(directory)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, (path, kind) in enumerate(kinds.items())
    ]
    files: dict[str, object] = {
        "sentence_bert_config.json": {"max_seq_length": window, "do_lower_case": False},
        "config_sentence_transformers.json": {"similarity_fn_name": "cosine", "prompts": {}},
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    }
    for path in ("1_Pooling", "2_Normalize"):
        (directory / path).mkdir()
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value), "utf-8")
    return directory


def cross_encoder(directory: Path, words: Sequence[str], *, width: int, window: int = 64, seed: int = 5) -> Path:
    """A model with one score for a pair of texts: its order is its own, and the same each time."""
    torch.manual_seed(seed)
    size = _size(words, width, window, num_labels=1, initializer_range=1.0)
    BertForSequenceClassification(size).save_pretrained(directory)
    _tokenizer(words, window).save_pretrained(directory)
    return directory


def _size(words: Sequence[str], width: int, window: int, **more: object) -> BertConfig:
    return BertConfig(
        vocab_size=len(SPECIAL) + len(words),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=window,
        **more,
    )


def _tokenizer(words: Sequence[str], window: int) -> PreTrainedTokenizerFast:
    numbers = {word: place for place, word in enumerate([*SPECIAL.values(), *words])}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=window, **SPECIAL)
