"""From the name in `search.reranker` to a cross-encoder: where its files are. No weights are loaded here.

`late-interaction` is no model of its own, but another use of the one that embeds (pipelines/embed/late.py).
"""

from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.models.folder import check_cross_encoder, hash_files, read_json, revision_of, root_files, window
from pipelines.models.resolve import named_folder

KEY = "search.reranker"
LATE_INTERACTION = "late-interaction"
FORMS = f"{LATE_INTERACTION}, path:DIR, hf:NAME@COMMIT, mlflow:MODEL@ALIAS"


@dataclass(frozen=True)
class Reranker:
    """A cross-encoder: a model that reads query and passage together and gives one score."""

    name: str
    revision: str  # 64 hex digits over its files
    max_tokens: int  # of query and passage together
    directory: Path


def resolve_reranker(name: str, workspace: Workspace) -> Reranker:
    """The model that `search.reranker` means, checked and hashed but not loaded.

    Raises `ConfigError` for a name of no known form, `InputError` for files that are refused.
    """
    directory = named_folder(name, workspace, markers=["config.json"], key=KEY)
    if directory is None:
        what = f"{KEY} {name!r} is not known" if name else "there is no model to rerank with"
        raise ConfigError(what, hint=f"set {KEY}; forms: {FORMS}")
    check_cross_encoder(directory)
    hashes = hash_files(directory, root_files(directory), workspace.state / "cache" / "model-files.json")
    return Reranker(name, revision_of(hashes), window(directory, read_json(directory, "config.json")), directory)
