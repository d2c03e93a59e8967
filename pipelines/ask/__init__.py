"""ask: an answer with evidence, or the plain word that there is none.

    question --search--> passages --a model, or the passages themselves--> sentences --checked--> answer + citations

Every citation quotes its chunk verbatim, by construction: a quote is a slice of the chunk. A sentence of a model that
no passage supports is marked. Where search abstains, no model is asked.

- `answerer.py`: the whole way, and the language model that is kept open      - `answer.py`: what comes out
- `passages.py`: what a model is shown, within its budget, and in which order
- `sentences.py`: the sentences of a text, as ranges of it
- `extract.py`: the sentences that answer, where there is no model            - `cite.py`: what supports a sentence
- `conflicts.py`: passages that contradict each other                         - `hops.py`: a question in several steps
- `traced.py`: what MLflow is told of an answer
"""

from pipelines.ask.answer import Answer, Citation, Conflict, Nearest, Sentence
from pipelines.ask.answerer import Answerer, log

__all__ = ["Answer", "Answerer", "Citation", "Conflict", "Nearest", "Sentence", "log"]
