"""What MLflow is told of an answer: what was retrieved and how long things took, and nothing that can be erased."""

import hashlib
import logging
import random

from pipelines import tracking
from pipelines.ask.answer import EXTRACTIVE, Answer
from pipelines.config import LogConfig
from pipelines.errors import InputError, ServiceUnavailable
from pipelines.tracking import Step

LOGGER = logging.getLogger("snapdex")


def traced(config: LogConfig, answer: Answer) -> None:
    """A trace of the answer, if it is in the sample `log.traces`. An answer counts more than its trace: where MLflow
    does not take it, there is a warning."""
    if random.random() >= config.traces or not tracking.is_configured():
        return
    asked = _kept(config, answer.question)
    searched = Step(
        "search",
        "RETRIEVER",
        0.0,
        answer.search_seconds,
        asked | {"searches": len(answer.queries)},
        [{"page_content": "", "metadata": {"chunk": chunk}} for chunk in answer.shown],
    )
    wrote = Step(
        "generate",
        "LLM",
        answer.seconds - answer.model_seconds,
        answer.seconds,
        {"model": answer.model, "prompt_tokens": answer.prompt_tokens},
        {"completion_tokens": answer.completion_tokens, "cost": answer.cost},
    )
    supported = sum(each.supported for each in answer.sentences)
    whole = Step(
        "ask",
        "CHAIN",
        0.0,
        answer.seconds,
        asked,
        {
            "abstained": answer.abstained,
            "sentences": len(answer.sentences),
            "supported": supported,
            "cited": [each.chunk for each in answer.citations],
        },
    )
    tags = {"snapdex.index": answer.index, "snapdex.version": str(answer.version), "snapdex.snapshot": answer.snapshot}
    steps = [searched] if answer.model == EXTRACTIVE else [searched, wrote]
    try:
        tracking.trace(f"{answer.index} answers", whole, steps, tags=tags | {"snapdex.model": answer.model})
    except (ServiceUnavailable, InputError) as error:
        LOGGER.warning("an answer has no trace: %s", error)


def _kept(config: LogConfig, question: str) -> dict[str, str]:
    if config.query == "hash":
        return {"question_sha256": hashlib.sha256(question.encode("utf-8")).hexdigest()}
    return {"question": question} if config.query == "text" else {}
