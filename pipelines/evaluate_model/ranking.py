"""Passages in the order in which a model likes them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.config import EmbedConfig
from pipelines.embed import Encoder, load_encoder
from pipelines.evaluate import DEPTH, Answer, Evaluation, Hit, evaluate
from pipelines.evaluate_model.corpora import Corpus, Passage
from pipelines.files import Workspace
from pipelines.manifests import vectors_store
from pipelines.model import batched
from pipelines.models import EmbeddingModel
from pipelines.models.tokens import load_tokenizer
from pipelines.progress import Progress

BLOCK = 512  # passages that are encoded, and compared with all questions, at a time


def evaluated(
    config: EmbedConfig, workspace: Workspace, corpus: Corpus, model: EmbeddingModel, progress: Progress
) -> Evaluation:
    """Every question of the corpus, over all its passages, by cosine similarity of vectors as they are stored."""
    encoder = load_encoder(model, config)
    known = _stored(workspace, corpus, model)
    questions = {text: number for number, text in enumerate(dict.fromkeys(query.text for query in corpus.queries))}
    asked = _unit(encoder.encode_queries(_fitting(list(questions), model)))
    best = np.full((len(questions), DEPTH), -1, np.int64)
    scores = np.full((len(questions), DEPTH), -np.inf, np.float32)
    at = 0
    for block in batched(corpus.passages, BLOCK):
        found = asked @ _unit(_vectors(block, known, encoder, model)).T
        together = np.concatenate([scores, found], axis=1)
        places = np.concatenate([best, np.broadcast_to(np.arange(at, at + len(block)), found.shape)], axis=1)
        order = np.argsort(-together, axis=1, kind="stable")[:, :DEPTH]
        scores, best = np.take_along_axis(together, order, axis=1), np.take_along_axis(places, order, axis=1)
        at += len(block)
        progress.advance(len(block))

    def search(text: str, k: int) -> Answer:
        number = questions[text]
        hits = [
            Hit(passage.document, passage.shown, (), float(score))
            for place, score in zip(best[number, :k], scores[number, :k], strict=True)
            if place >= 0 and (passage := corpus.passages[place])
        ]
        return Answer(hits, False)

    return evaluate(corpus.queries, search)


def _stored(workspace: Workspace, corpus: Corpus, model: EmbeddingModel) -> dict[bytes, bytes]:
    """The vectors that the index has of these chunks in the space of this model."""
    keys = {passage.key for passage in corpus.passages if passage.key}
    store = workspace.store(vectors_store(model.space))
    return dict(store.read(keys - store.missing(keys)))


def _vectors(
    passages: Sequence[Passage], known: Mapping[bytes, bytes], encoder: Encoder, model: EmbeddingModel
) -> NDArray[np.float32]:
    """[n, d] in the order of the passages; those that are not known are encoded by length, which wastes least."""
    vectors = np.empty((len(passages), model.dimension), np.float32)
    fresh = []
    for place, passage in enumerate(passages):
        if passage.key in known:
            vectors[place] = np.frombuffer(known[passage.key], "<f2")
        else:
            fresh.append(place)
    if fresh:
        fresh.sort(key=lambda place: len(passages[place].text))
        vectors[fresh] = encoder.encode(_fitting([passages[place].text for place in fresh], model)).astype("<f2")
    return vectors


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _fitting(texts: Sequence[str], model: EmbeddingModel) -> list[str]:
    """The texts, those that the model's window is too small for without their end."""
    counter = load_tokenizer(model)
    fitting = list(texts)
    for place, count in enumerate(counter.count(texts)):
        text = texts[place]
        while count > model.max_tokens:
            starts = counter.spans(text)
            text = text[: int(starts[max(1, len(starts) - (count - model.max_tokens))])].rstrip()
            count = counter.count([text])[0]
        fitting[place] = text
    return fitting
