"""What one answer is worth, as far as it can be counted."""

from collections.abc import Mapping
from statistics import mean

from pipelines.ask import Answer
from pipelines.ask.sentences import words_of
from pipelines.evaluate import Query
from pipelines.evaluate_behaviour.score import score

REFUSED, ANSWERED = "refused, and there is an answer", "answered, and there is none"
UNSUPPORTED, OTHER_DOCUMENTS, OTHER_ANSWER = "unsupported", "cites other documents", "another answer"
WRONG = (REFUSED, ANSWERED, UNSUPPORTED, OTHER_DOCUMENTS, OTHER_ANSWER)


def scores(query: Query, answer: Answer) -> dict[str, float]:
    """Those that apply; an abstention has none but `answered`.

    faithfulness: share of the sentences that a cited passage supports. citation_precision, citation_recall: cited
    documents against those of the golden set (an unanswerable question has none). context_utilisation: share of the
    passages shown that are cited. contains: whether all words of an expected answer are in the answer; f1 and
    exact_match: of words, with the expected answer that is nearest.
    """
    found = {"answered": float(not answer.abstained)} if query.answerable else {}
    if answer.abstained:
        return found
    if answer.sentences:
        found["faithfulness"] = mean(each.supported for each in answer.sentences)
    if answer.shown:
        found["context_utilisation"] = len({each.chunk for each in answer.citations}) / len(answer.shown)
    if query.answerable:
        found |= _citations(query, answer)
    if query.answers:
        said = " ".join(each.text for each in answer.sentences)
        each = [score(said, expected, {}).metrics for expected in query.answers]
        found |= {name: max(metrics[name] for metrics in each) for name in ("f1", "exact_match")}
        there = set(words_of(said))
        found["contains"] = float(any(set(words_of(expected)) <= there for expected in query.answers))
    return found


def wrong(query: Query, answer: Answer, metrics: Mapping[str, float]) -> str:
    """The first thing that is wrong with an answer; nothing where nothing can be told to be."""
    if answer.abstained:
        return REFUSED if query.answerable else ""
    if not query.answerable:
        return ANSWERED
    if metrics.get("faithfulness", 1.0) < 1.0:
        return UNSUPPORTED
    if metrics["citation_recall"] == 0.0:
        return OTHER_DOCUMENTS
    return OTHER_ANSWER if metrics.get("contains") == 0.0 else ""


def _citations(query: Query, answer: Answer) -> dict[str, float]:
    """A cited chunk counts for every document that holds it."""
    expected = {uri.partition("#")[0] for uri in query.relevant}
    cited = [{each.document, *each.also_in} for each in answer.citations]
    right = sum(bool(documents & expected) for documents in cited)
    found = expected & set().union(*cited)
    return {
        "citation_precision": right / len(cited) if cited else 0.0,
        "citation_recall": len(found) / len(expected),
    }
