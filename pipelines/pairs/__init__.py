"""pairs: what an embedding model is fine-tuned with, from judgements and from the corpus itself.

    index version + judgements + chunks  -->  data/pairs/NAME/train.jsonl, held-out.jsonl

A pair is a question and the chunk that answers it, as it is embedded, with hard negatives: chunks that search finds for
the question and nobody judged good. Pairs that share a document or a question are a group, and a group is either
learned from or held out.

- `stage.py`: the stage itself; the rest is light to import
- `judgements.py`: the queries of a golden set, with the chunk of each judged document that is nearest to them
- `mine.py`: headings and questions that stand in the corpus, with what follows them
- `negatives.py`: the other chunks that search finds
- `split.py`: which groups are held out
- `rows.py`, `check.py`: the files, and what is wrong with one (`columns.py`, `leakage.py`, `sizes.py`, `text.py`)
"""

from collections.abc import Callable, Container, Sequence
from pathlib import Path

from pipelines.errors import InputError
from pipelines.files import Workspace
from pipelines.models import EmbeddingModel, load_tokenizer
from pipelines.pairs.check import Checked, check
from pipelines.pairs.rows import Pair, read_pairs, write_pairs

__all__ = [
    "HELD_OUT",
    "TRAIN",
    "Checked",
    "Pair",
    "check",
    "check_for",
    "pairs_folder",
    "read_pairs",
    "refuse",
    "write_pairs",
]

TRAIN, HELD_OUT = "train.jsonl", "held-out.jsonl"
SHOWN = 5  # errors that a refusal names


def pairs_folder(workspace: Workspace, name: str) -> Path:
    return workspace.root / "data" / "pairs" / name


def check_for(path: Path, model: EmbeddingModel, *, against: Path | None = None) -> Checked:
    """What is wrong with a file of pairs, for the model that shall learn from it."""
    count: Callable[[Sequence[str]], Sequence[int]] = load_tokenizer(model).count
    return check(path, against=against, tokens=count, max_tokens=model.max_tokens)


def refuse(path: Path, checked: Checked, *, but: Container[str] = ()) -> None:
    """Raise `InputError` where there is an error among the findings. `but`: kinds that do not count."""
    wrong = [each for each in checked.findings if each.level == "error" and each.kind not in but]
    if wrong:
        first = "; ".join(f"line {each.line}: {each.kind}: {each.detail}" for each in wrong[:SHOWN])
        raise InputError(
            f"{path} has {len(wrong)} errors: {first}", hint=f"all of them: snapdex finetune check {path.name}"
        )
