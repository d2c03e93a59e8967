"""What an index should be, as a few dictionaries: no store, no database, no code of the program.

An operation on a model returns the models that it passes through: a process that dies leaves the first (before) or any
of these, and nothing else.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

Documents = Mapping[str, str]  # URI to text


@dataclass(frozen=True)
class Move:
    kind: str
    version: int
    left: Documents | None = field(default=None, compare=False)  # what was active before


@dataclass(frozen=True)
class Model:
    """The state of one index after every acknowledged operation."""

    versions: Mapping[int, Documents] = field(default_factory=dict)
    moves: tuple[Move, ...] = ()
    last: int = 0  # the highest number that was ever given
    tags: Mapping[str, int] = field(default_factory=dict)
    pins: frozenset[int] = frozenset()

    @property
    def active(self) -> int | None:
        return self.moves[-1].version if self.moves else None

    @property
    def newest(self) -> int | None:
        return max(self.versions, default=None)

    @property
    def before(self) -> int | None:
        """What a rollback without a name goes to: the active version below the present one on the stack of moves."""
        stack: list[int] = []
        for move in self.moves:
            if move.kind == "rollback" and move.version in stack:
                while stack.pop() != move.version:
                    pass
            stack.append(move.version)
        earlier = [version for version in stack[:-1] if version in self.versions and version != stack[-1]]
        return earlier[-1] if earlier else None

    @property
    def rolled_back(self) -> list[Documents]:
        """What was moved away from since the last publish: a run does not publish it again."""
        left = []
        for move in reversed(self.moves):
            if move.kind == "publish":
                break
            left.append(move.left or {})
        return left

    # -- operations

    def run(self, documents: Documents, publish: bool = True) -> list["Model"]:
        """Seal a version of these documents, unless the newest or the active one is that; publish it if it is new."""
        documents = dict(documents)
        same = [v for v in (self.active, self.newest) if v and self.versions[v] == documents]
        if not same:
            sealed = replace(self, versions={**self.versions, self.last + 1: documents}, last=self.last + 1)
            return [sealed, *(sealed.publish(sealed.last) if publish and documents not in self.rolled_back else [])]
        was_active = same[0] in {move.version for move in self.moves}
        held = was_active or documents in self.rolled_back
        return self.publish(same[0]) if publish and self.active != same[0] and not held else [self]

    def publish(self, version: int, kind: str = "publish") -> list["Model"]:
        left = self.versions[self.active] if self.active else None
        return [replace(self, moves=(*self.moves, Move(kind, version, left)))]

    def rollback(self, version: int | None = None) -> list["Model"]:
        target = version or self.before
        assert target is not None
        return self.publish(target, "rollback")

    def forgettable(self, keep_last: int = 0, keep_tagged: bool = False) -> list[int]:
        last = sorted(self.versions)[-max(1, keep_last) :]
        kept = {self.active, *self.pins, *last, *(self.tags.values() if keep_tagged else ())}
        return [version for version in sorted(self.versions) if version not in kept]

    def forget(self, keep_last: int = 0, keep_tagged: bool = False) -> list["Model"]:
        gone = self.forgettable(keep_last, keep_tagged)
        return [
            replace(
                self,
                versions={number: each for number, each in self.versions.items() if number not in gone},
                tags={name: number for name, number in self.tags.items() if number not in gone},
            )
        ]

    def prune(self) -> list["Model"]:
        return [self]

    def tag(self, name: str, version: int) -> list["Model"]:
        return [replace(self, tags={**self.tags, name: version})]

    def pin(self, version: int) -> list["Model"]:
        return [replace(self, pins=self.pins | {version})]

    def unpin(self, version: int) -> list["Model"]:
        return [replace(self, pins=self.pins - {version})]

    def restore(self, documents: Documents, number: int) -> list["Model"]:
        """Recorded content, which had this number: published if the index holds it, else sealed first."""
        documents = dict(documents)
        kind = "rollback" if self.active else "publish"
        held = [version for version in sorted(self.versions) if self.versions[version] == documents]
        if held:
            return self.publish(held[-1], kind) if self.active != held[-1] else [self]
        free = number > (self.newest or 0)
        given = number if free else max(self.last, number) + 1
        sealed = replace(self, versions={**self.versions, given: documents}, last=max(self.last, given))
        return [sealed, *sealed.publish(given, kind)]


# -- sequences of operations, chosen by chance -------------------------------------------------------------------------

Step = tuple[str, tuple[object, ...]]

PARAGRAPHS = [
    "Rolling back moves one row, and readers notice nothing.",
    "A version is sealed once its rows are complete.",
    "Prune deletes what no version reaches, tags included.",
    "The gate compares a candidate with the active version.",
    "Embeddings are kept by the hash of their text.",
    "Readers see one version, whatever is published meanwhile.",
]
NAMES = ["a.md", "b.md", "deep/c.md", "d.md", "ä ö.md"]


def text_of(paragraphs: Sequence[str]) -> str:
    return "# On versions\n\n" + "\n\n".join(paragraphs) + "\n"


def passes(model: Model, step: Step, documents: Documents) -> list[Model]:
    """The models that an operation with these arguments passes through."""
    operation, arguments = step
    if operation == "run":
        return model.run(documents, *map(bool, arguments))
    found: list[Model] = getattr(model, operation)(*arguments)
    return found


def next_step(choose: random.Random, model: Model, documents: Documents) -> tuple[Step, Documents]:
    """Something that may be done now, and the documents as they are then."""
    others = [version for version in model.versions if version != model.active]
    kinds = ["run"] * 5 + ["prune", "forget"] + (["publish", "rollback", "rollback"] if others else [])
    kind = choose.choice([*kinds, "pin", "unpin", "tag"] if model.versions else ["run"])
    if kind == "run":
        return ("run", (choose.random() < 0.8,)), edited(choose, documents)
    arguments: tuple[object, ...] = ()
    if kind == "forget":
        arguments = (choose.randrange(4), choose.random() < 0.5)
    elif kind in ("publish", "rollback"):
        arguments = (choose.choice(others),)
    elif kind in ("pin", "unpin"):
        arguments = (choose.choice(list(model.versions)),)
    elif kind == "tag":
        arguments = (f"name-{choose.randrange(3)}", choose.choice(list(model.versions)))
    return (kind, arguments), documents


def edited(choose: random.Random, documents: Documents) -> Documents:
    """Some of them written, deleted or renamed; never none left."""
    now = dict(documents)
    for _ in range(choose.randrange(1, 4)):
        name = choose.choice(NAMES)
        kind = choose.choice(["write", "write", "delete", "rename"]) if len(now) > 1 else "write"
        if kind == "write":
            words = [
                f"{choose.choice(PARAGRAPHS)} No. {choose.randrange(1000)}." for _ in range(choose.randrange(1, 5))
            ]
            now[name] = text_of(words)
        elif kind == "delete":
            now.pop(name, None)
        elif name in now:
            now[choose.choice(NAMES)] = now.pop(name)
    return now
