"""A sentence-transformers model of a few kilobytes, made from a seed."""

import os
import warnings
from pathlib import Path
from typing import Any

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "gate", "opens", "six", "seven", "tea", "refund"]


def save_model(directory: Path, seed: int = 0) -> Any:
    """Save a model with 8 dimensions in `directory`; returns it as the library loads it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    raw = directory.with_name(f"{directory.name}-raw")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(raw)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(raw)
    modules = [Transformer(str(raw), max_seq_length=32), Pooling(8), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(directory))
    return SentenceTransformer(str(directory), device="cpu")


def client_of(directory: Path) -> Any:
    """A client of a store in SQLite that has its tables, below `directory`."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's own code, on import
        import mlflow
        import mlflow.sentence_transformers

        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{directory}/mlflow.db")
        client.search_experiments()
    return client
