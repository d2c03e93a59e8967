"""A small causal language model, made here: a tokenizer and a Llama of a few layers, pretrained on given texts.

No weights can be fetched where the measurements run, and a model of a few million parameters learns a format on a
laptop. It has read its texts and nothing else, so what it knows is known.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
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
    blocks = _blocks(tokenizer, texts, block, seed)
    read = (torch.tensor([next(blocks) for _ in range(batch)]) for _ in range(steps))
    _train(model, ({"input_ids": ids, "labels": ids} for ids in read), steps, rate)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def teach(
    directory: Path,
    base: Path,
    lessons: Sequence[tuple[str, str]],
    *,
    steps: int,
    batch: int = 16,
    rate: float = 2e-3,
    spread: float | None = None,
    seed: int = 5,
) -> Path:
    """The model in `base` after so many steps of learning answers to prompts, in `directory`.

    `spread`: begin with random weights of this standard deviation. With 0.1, more than usual, a model of a few layers
    learns to copy in a hundred steps; with the usual ones it does not in thousands.
    """
    model = LlamaForCausalLM.from_pretrained(str(base))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(base))
    if spread is not None:
        torch.manual_seed(0)
        for weights in model.parameters():
            if weights.dim() == 2:
                torch.nn.init.normal_(weights, std=spread)
    _train(model, _lessons(tokenizer, lessons, steps, batch, seed), steps, rate)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def _train(model: LlamaForCausalLM, batches: Iterable[dict[str, torch.Tensor]], steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.1)
    for each in batches:
        model(**each).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


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


def _lessons(
    tokenizer: PreTrainedTokenizerFast, lessons: Sequence[tuple[str, str]], steps: int, batch: int, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Token ids, padded on the left, their mask, and labels, which only answers have."""
    choose = random.Random(seed)
    for _ in range(steps):
        pairs = [
            (tokenizer(prompt)["input_ids"], [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id])
            for prompt, answer in choose.sample(lessons, batch)
        ]
        longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
        filled = [(longest - len(prompt) - len(answer), prompt, answer) for prompt, answer in pairs]
        yield {
            "input_ids": torch.tensor([[tokenizer.pad_token_id] * empty + [*ask, *say] for empty, ask, say in filled]),
            "attention_mask": torch.tensor([[0] * empty + [1] * (longest - empty) for empty, _, _ in filled]),
            "labels": torch.tensor([[-100] * (empty + len(ask)) + say for empty, ask, say in filled]),
        }


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
