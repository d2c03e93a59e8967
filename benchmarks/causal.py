"""A small causal language model, made here: a tokenizer and a Llama of a few layers, pretrained on given texts.

No weights can be fetched where the measurements run, and a model of a few million parameters learns a format on a
laptop. It has read its texts and nothing else, so what it knows is known.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, PAD = "<end>", "<pad>"


def make_causal(
    directory: Path,
    texts: Sequence[str],
    *,
    width: int = 256,
    layers: int = 4,
    vocabulary: int = 4000,
    window: int = 1024,
    steps: int = 300,
    batch: int = 16,
    block: int = 128,
    rate: float = 2e-3,
    seed: int = 0,
) -> Path:
    """Make a model in `directory` that has read the texts for so many steps; the same for the same arguments."""
    tokenizer = _tokenizer(texts, vocabulary, window)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=window,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    blocks = _blocks(tokenizer, texts, block, seed)
    for _ in range(steps):
        ids = torch.tensor([next(blocks) for _ in range(batch)])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _tokenizer(texts: Sequence[str], vocabulary: int, window: int) -> PreTrainedTokenizerFast:
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False
    )
    plain.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=plain, eos_token=END, pad_token=PAD, model_max_length=window, padding_side="left"
    )


def _blocks(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], block: int, seed: int) -> Iterator[list[int]]:
    """The texts one after the other, in another order each time, in pieces of `block` tokens."""
    order = random.Random(seed)
    left: list[int] = []
    while True:
        for text in order.sample(texts, len(texts)):
            left += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            while len(left) >= block:
                yield left[:block]
                left = left[block:]
