"""A world small enough to learn in a second: documents in one language, questions in another, a model that knows none.

There are as many words in each language; the n-th of one means the n-th of the other. A document has three, and a
question about it says the same three. Only who has learned the dictionary finds the document.
"""

import json
import random
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from tests.index.state import State

MEANINGS = 12
SYLLABLES = ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se")
OURS = [f"{each}ton" for each in SYLLABLES]  # of documents
THEIRS = [f"{each}vel" for each in SYLLABLES]  # of questions
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *OURS, *THEIRS, *(str(number) for number in range(10))]
WINDOW = 64

Combination = tuple[int, ...]


def small_model(directory: Path, *, seed: int = 3) -> Path:
    """A BERT of one layer with random weights, as sentence-transformers saves one."""
    torch.manual_seed(seed)
    BertModel(_size()).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)
    write(directory / "sentence_bert_config.json", {"max_seq_length": WINDOW, "do_lower_case": False})
    write(directory / "config_sentence_transformers.json", {"similarity_fn_name": "cosine", "prompts": {}})
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, (path, kind) in enumerate(kinds.items())
    ]
    write(directory / "modules.json", modules)
    write(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    (directory / "2_Normalize").mkdir()
    return directory


def small_cross_encoder(directory: Path) -> Path:
    """The same with one score for a pair of texts."""
    torch.manual_seed(5)
    BertForSequenceClassification(_size(num_labels=1, initializer_range=1.0)).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)
    return directory


def _size(**more: object) -> BertConfig:
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=WINDOW,
        **more,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=WINDOW, **named)


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def said(combination: Combination, words: list[str], choose: random.Random) -> str:
    """The meanings in any order, one of them perhaps twice."""
    spoken = [*combination, choose.choice(combination)]
    choose.shuffle(spoken)
    return " ".join(words[meaning] for meaning in spoken)


def make_world(state: State, *settings: str) -> State:
    """Documents of all 220 combinations, questions about 160 to learn from, about 40 others to be judged by."""
    choose = random.Random(7)
    every = list(combinations(range(MEANINGS), 3))
    choose.shuffle(every)
    documents = {f"{'-'.join(map(str, each))}.txt": said(each, OURS, choose) for each in every}
    state.write(documents)

    def questions(path: Path, about: list[Combination]) -> None:
        rows = [
            {"question": said(each, THEIRS, choose), "documents": [f"{'-'.join(map(str, each))}.txt"]} for each in about
        ]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")

    questions(state.root / "train.jsonl", every[:160])
    questions(state.root / "golden.jsonl", every[160:200])
    base = small_model(state.root / "base")
    return state.with_settings(*SETTINGS, f"embed.model=path:{base}", *settings)


SETTINGS = (
    "embed.threads=1",  # what they would divide is too little
    "search.mode=dense",
    "gate.golden=golden.jsonl",
    "pairs.judgements=train.jsonl",
    "pairs.mined=0",
    "finetune.learning_rate=0.005",
    "finetune.epochs=10",
    "finetune.evaluations=1",
)


def write_off_domain(directory: Path, texts: Mapping[str, str], questions: Mapping[str, str]) -> Path:
    """A BEIR directory; `questions`: to the id of the text that answers them."""
    directory.mkdir(parents=True)
    corpus = [{"_id": id, "title": "", "text": text} for id, text in texts.items()]
    queries = [{"_id": str(number), "text": text} for number, text in enumerate(questions)]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (directory / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    judged = "".join(f"{number}\t{id}\t1\n" for number, id in enumerate(questions.values()))
    (directory / "qrels").mkdir()
    (directory / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
    return directory
