"""generate: language models behind one interface, whether they run here or at a server.

    generate.model  --resolve_generator-->  Generator  --load_generator-->  LanguageModel  -->  Completion

- `chat.py`: what is said to a model, and what it answers
- `local.py`: models from a directory, through transformers
- `endpoint.py`: servers with OpenAI's chat completions
- `counting.py`: tokens of a text for a model
- `writer.py`, `kept.py`: the model with a memory, so that nothing is asked twice
- `questions.py`: a question that a passage answers
"""

from pipelines.generate.chat import Completion, Conversation, LanguageModel, Message, cost
from pipelines.generate.counting import counters
from pipelines.generate.kept import forget_answers
from pipelines.generate.load import load_generator
from pipelines.generate.questions import LEAST_WORDS, is_copied, passage_of, write_questions
from pipelines.generate.writer import Writer

__all__ = [
    "LEAST_WORDS",
    "Completion",
    "Conversation",
    "LanguageModel",
    "Message",
    "Writer",
    "cost",
    "counters",
    "forget_answers",
    "is_copied",
    "load_generator",
    "passage_of",
    "write_questions",
]
