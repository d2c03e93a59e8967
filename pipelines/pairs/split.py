"""Which pairs are held out. Pairs that share a document or a question stay on one side: a split by row would ask the
model what it has seen."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipelines.config import BehaviourConfig, PairsConfig
from pipelines.model import digest
from pipelines.pairs.rows import Pair
from pipelines.pairs.text import normalised

SHARES = 2**32


def grouped(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """The pairs with `group` set to the first name of what they are connected with, by document or by question."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while above.setdefault(name, name) != name:
            above[name] = name = above[above[name]]
        return name

    for pair in pairs:
        names = sorted((root(_document(pair)), root(_question(pair))))
        above[names[1]] = names[0]
    for pair in pairs:
        yield replace(pair, group=root(_document(pair)))


def _document(pair: Pair) -> str:
    return f"document {pair.group}" if pair.group else _question(pair)


def _question(pair: Pair) -> str:
    return f"question {normalised(pair.query)}"


def is_held_out(group: str, config: PairsConfig | BehaviourConfig) -> bool:
    """The same for the same group and seed, whatever else there is."""
    return int.from_bytes(digest(str(config.seed), group)[:4], "big") < config.held_out * SHARES
