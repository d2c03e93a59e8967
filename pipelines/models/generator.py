"""From the name in `generate.model` to a language model: where its files are. No weights are loaded here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.config import GenerateConfig
from pipelines.errors import ConfigError
from pipelines.files import Workspace
from pipelines.model import digest
from pipelines.models.folder import (
    ADAPTER,
    adapter_files,
    check_adapter,
    check_causal,
    hash_files,
    read_json,
    revision_of,
    window,
    writing_files,
)
from pipelines.models.hosted import HOSTED, read_hosted
from pipelines.models.resolve import named_folder, pinned

KEY = "generate.model"
FORMS = "openai:MODEL, path:DIR, hf:NAME@COMMIT, mlflow:MODEL@ALIAS"


@dataclass(frozen=True)
class Generator:
    """A model that writes: enough to say which one it is, without its weights."""

    name: str  # as in `generate.model`; of a registry with the version, never with an alias
    kind: Literal["folder", "endpoint"]
    revision: str  # 64 hex digits: over its files, those of a base model included; of an endpoint over the name
    window: int = 0  # tokens of a conversation and what is written to it; 0: a server knows
    directory: Path | None = None  # of the whole model; of an adapter, of its base
    adapter: Path | None = None
    hosted: str = ""  # what a server calls it, where `name` names a directory that says so

    @property
    def at_server(self) -> str:
        """What a server calls the model, of one at an endpoint."""
        return self.hosted or self.name.partition(":")[2]

    @property
    def tokenizer(self) -> Path | None:
        """The directory of its tokenizer: an adapter may bring one of its own."""
        own = self.adapter is not None and (self.adapter / "tokenizer.json").is_file()
        return self.adapter if own else self.directory


def resolve_generator(config: GenerateConfig, workspace: Workspace, *, key: str = KEY) -> Generator:
    """The model that `generate.model` means, checked and hashed but not loaded; `key`: of the parameter that named it.

    Raises `ConfigError` for a name of no known form and for none, `InputError` for files that are refused.
    """
    form, _, rest = config.model.partition(":")
    if form == "openai" and rest:
        return Generator(config.model, "endpoint", _revision_at_server(rest))
    name = pinned(config.model, key)
    directory = named_folder(name, workspace, markers=["config.json", ADAPTER, HOSTED], key=key)
    if directory is None:
        what = f"{key} {config.model!r} is not known" if config.model else "there is no model that writes"
        raise ConfigError(what, hint=f"set {key}; forms: {FORMS}")
    if (directory / ADAPTER).is_file():
        return _adapted(name, workspace, directory)
    if (directory / HOSTED).is_file():
        model = read_hosted(directory).model
        return Generator(name, "endpoint", _revision_at_server(model), hosted=model)
    check_causal(directory)
    return Generator(name, "folder", _revision(workspace, directory), _window(directory), directory)


def _adapted(name: str, workspace: Workspace, adapter: Path) -> Generator:
    check_adapter(adapter)
    base = _base(workspace, adapter)
    check_causal(base)
    own = revision_of(hash_files(adapter, adapter_files(adapter), _cache(workspace)))
    revision = digest("adapter 1", _revision(workspace, base), own).hex()
    return Generator(name, "folder", revision, _window(base), base, adapter)


def _base(workspace: Workspace, adapter: Path) -> Path:
    """The directory of the base model that an adapter names: a path, a name of ours, or one of the hub."""
    config = read_json(adapter, ADAPTER)
    named, commit = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(named, str) or not named:
        raise ConfigError(f"{adapter / ADAPTER} names no base model", hint="set base_model_name_or_path there")
    for place in (adapter / named, workspace.root / named):  # an absolute path is itself in both
        if (place / "config.json").is_file():
            return place.resolve()
    name = named if named.startswith(("path:", "hf:", "mlflow:")) or not commit else f"hf:{named}@{commit}"
    found = named_folder(name, workspace, markers=["config.json"], key="base_model_name_or_path")
    if found is None:
        raise ConfigError(
            f"{adapter / ADAPTER} names the base {named!r}, which is no directory here and has no commit",
            hint="set base_model_name_or_path there: path:DIR, hf:NAME@COMMIT",
        )
    return found


def _revision_at_server(model: str) -> str:
    return digest("generator at an endpoint 1", model).hex()


def _revision(workspace: Workspace, directory: Path) -> str:
    return revision_of(hash_files(directory, writing_files(directory), _cache(workspace)))


def _cache(workspace: Workspace) -> Path:
    return workspace.state / "cache" / "model-files.json"


def _window(directory: Path) -> int:
    config = read_json(directory, "config.json")
    positions = config.get("max_position_embeddings") or config.get("n_positions")  # the latter of GPT-2
    return window(directory, config | {"max_position_embeddings": positions})
