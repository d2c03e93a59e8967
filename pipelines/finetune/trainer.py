"""The training: sentence-transformers' trainer over pairs, read from top to bottom.

Loss: MultipleNegativesRanking (Henderson et al. 2017), where the positives of the other pairs in a batch are negatives,
beside the mined ones. With a teacher: MarginMSE on its scores (Hofstätter et al. 2020). Shorter vectors: Matryoshka
(Kusupati et al. 2022). LoRA: Hu et al. 2021, merged into the weights at the end.
"""

import random
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer import evaluation, losses

from pipelines.config import Config, FinetuneConfig
from pipelines.files import Workspace
from pipelines.finetune import loop
from pipelines.finetune.facts import Trained
from pipelines.finetune.log import Log
from pipelines.models import EmbeddingModel
from pipelines.pairs import Pair
from pipelines.progress import Progress

METRIC = "eval_held_out_cosine_ndcg@10"
TOLD = {**loop.TOLD, METRIC: "held_out/ndcg@10"}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
LORA_LAYERS = ["query", "key", "value", "dense"]  # of BERT; others by PEFT's own list


def train(
    base: EmbeddingModel,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    config: Config,
    workspace: Workspace,
    place: Path,
    log: Log,
    progress: Progress,
) -> Trained:
    """Train from `base`, or go on from the last whole checkpoint in `place`."""
    began = time.perf_counter()
    settings = config.finetune
    metric = METRIC if held_out else None
    loop.set_up(settings, config.embed.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about each other
        model = open_model(base.directory)
        model.model_card_data.widget = [{"text": ""}]  # else examples are computed for a page that nobody asked for
        window = model.max_seq_length
        model.max_seq_length = min(settings.max_tokens, base.max_tokens)
        lora = _lora(model, settings) if settings.method == "lora" else None
        if lora is not None:
            model.add_adapter(lora)
        rows, teaches = _dataset(pairs, config, workspace, base)
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                **loop.arguments(settings, place, len(rows), metric, most=True),
                batch_sampler="no_duplicates",  # an answer must not stand in its batch as a negative
            ),
            train_dataset=rows,
            loss=_loss(model, settings, teaches=teaches),
            evaluator=_evaluator(held_out, base) if held_out else None,
            callbacks=loop.callbacks(settings, loop.Teller(log, progress, TOLD), metric),
        )
        loop.go_on(trainer, place)
        if lora is not None:
            model = _merged(model, base.directory, lora)
        model.max_seq_length = window
        made = place / "model"
        model.save_pretrained(str(made), create_model_card=False)
    for name in TOKENIZER_FILES:  # which training leaves alone and the library writes anew: chunks depend on them
        if base.directory and (base.directory / name).exists():
            shutil.copyfile(base.directory / name, made / name)
    return loop.ended(trainer, made, len(pairs), metric, began)


def open_model(directory: Path | None) -> SentenceTransformer:
    """The model in a directory, on the GPU where there is one; nothing is downloaded and no code of it is run."""
    return SentenceTransformer(
        str(directory),
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": "float32"},
    )


def _dataset(pairs: Sequence[Pair], config: Config, workspace: Workspace, base: EmbeddingModel) -> tuple[Dataset, bool]:
    """Columns query, positive, negative_1..n; where a pair has too few, with those of others. A teacher adds labels."""
    most = max(len(pair.negatives) for pair in pairs)
    pool = random.Random(config.finetune.seed)
    spare = [text for pair in pairs for text in pair.negatives]
    rows = []
    for pair in pairs:
        filled = [*pair.negatives, *(pool.choice(spare) for _ in range(most - len(pair.negatives)))]
        row: dict[str, Any] = {
            "query": base.query_prefix + pair.query,
            "positive": base.passage_prefix + pair.positive,
        }
        rows.append(row | {f"negative_{n}": base.passage_prefix + text for n, text in enumerate(filled, 1)})
    if not config.finetune.teacher:
        return Dataset.from_list(rows), False

    from pipelines.finetune.teacher import with_margins

    return Dataset.from_list(with_margins(rows, config, workspace)), True


def _loss(model: SentenceTransformer, settings: FinetuneConfig, *, teaches: bool) -> Any:
    plain = losses.MarginMSELoss(model) if teaches else losses.MultipleNegativesRankingLoss(model)
    if not settings.dimensions:
        return plain
    whole = model.get_embedding_dimension()
    assert whole is not None
    return losses.MatryoshkaLoss(model, plain, sorted({whole, *settings.dimensions}, reverse=True))


def _lora(model: SentenceTransformer, settings: FinetuneConfig) -> Any:
    from peft import LoraConfig

    backbone: Any = model[0].auto_model
    named = {name.rpartition(".")[2] for name, _ in backbone.named_modules()}
    layers = [layer for layer in LORA_LAYERS if layer in named] or None
    return LoraConfig(r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, lora_dropout=0.05, target_modules=layers)


def _merged(trained: SentenceTransformer, base: Path | None, lora: Any) -> SentenceTransformer:
    """The base with what the adapter has learned in its own weights."""
    from peft import get_peft_model, set_peft_model_state_dict

    model = open_model(base)
    backbone: Any = model[0].auto_model
    adapter: Any = trained[0].auto_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(backbone, lora)
    learned = adapter.get_adapter_state_dict()
    unknown: Any = set_peft_model_state_dict(adapted, {f"base_model.model.{name}": learned[name] for name in learned})
    assert not unknown.unexpected_keys, unknown.unexpected_keys
    adapted.merge_and_unload()  # in place
    return model


def _evaluator(held_out: Sequence[Pair], base: EmbeddingModel) -> Any:
    """Each held-out question among the passages of all held-out pairs, negatives included."""
    passages = sorted({text for pair in held_out for text in (pair.positive, *pair.negatives)})
    ids = {text: str(number) for number, text in enumerate(passages)}
    relevant: dict[str, set[str]] = {}
    for pair in held_out:
        relevant.setdefault(pair.query, set()).add(ids[pair.positive])
    queries = {str(number): query for number, query in enumerate(relevant)}
    return evaluation.InformationRetrievalEvaluator(
        {id: base.query_prefix + query for id, query in queries.items()},
        {id: base.passage_prefix + text for text, id in ids.items()},
        {id: relevant[query] for id, query in queries.items()},
        mrr_at_k=[10],
        ndcg_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[10],
        map_at_k=[10],
        score_functions={"cosine": lambda a, b: torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T},
        name="held_out",
        batch_size=16,
        write_csv=False,
    )
