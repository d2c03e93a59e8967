"""A directory in sentence-transformers format: refused where it is unsafe, hashed before any library opens it.

Only data may lie in a model: safetensors and JSON. Pickles run code when they are opened, and so do configurations
that name Python classes; both are refused by name, without opening anything but the JSON files.
"""

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.errors import InputError
from pipelines.files import atomic_write

MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout"}
CODE_KEYS = {"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"}
KERNEL_KEYS = {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADER_BYTES = 16 * 2**20  # of a safetensors file; a model with 10,000 tensors needs 1.5 MB

_ROOT_FILES = {
    "added_tokens.json",
    "config.json",
    "config_sentence_transformers.json",
    "merges.txt",
    "modules.json",
    "preprocessor_config.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
}
_WRITING_FILES = {"chat_template.jinja", "chat_template.json", "generation_config.json"}  # of models that write
_MODULE_SUFFIXES = {".json", ".model", ".txt"}
_WEIGHTS = {".safetensors"}
_PICKLES = {".bin", ".ckpt", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth"}


@dataclass(frozen=True)
class FolderFacts:
    """What the JSON files of a model say about its vectors."""

    dimension: int
    max_tokens: int
    normalised: bool
    query_prompt: str
    passage_prompt: str


@dataclass(frozen=True)
class Module:
    """One step of the model: the last part of its class name, and its directory relative to the model's."""

    kind: str
    place: str


def check_folder(directory: Path) -> None:
    """Raise `InputError` for anything that could run code, that is not there, or that Snapdex cannot use."""
    if not (directory / "modules.json").is_file():
        raise InputError(
            f"{directory} is not a sentence-transformers model: it has no modules.json",
            hint="save it with SentenceTransformer(...).save_pretrained(DIR)",
        )
    modules = read_modules(directory)
    _check_files(directory, shaping_files(directory), {"", *(module.place for module in modules)})


def check_cross_encoder(directory: Path) -> None:
    """The same for a model that scores pairs of texts, as transformers or sentence-transformers save one."""
    if not (directory / "config.json").is_file():
        raise _unusable(directory, "it is not a saved model: it has no config.json")
    config = read_json(directory, "config.json")
    labels = config.get("id2label") or {}
    kinds = [str(kind) for kind in config.get("architectures") or []]
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds) or len(labels) != 1:
        raise _unusable(directory, "it does not give one score for a pair of texts")
    _check_files(directory, root_files(directory), {""})


def check_causal(directory: Path) -> None:
    """The same for a model that continues a text."""
    if not (directory / "config.json").is_file():
        raise _unusable(directory, "it is not a saved model: it has no config.json")
    kinds = [str(kind) for kind in read_json(directory, "config.json").get("architectures") or []]
    if not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        raise _unusable(directory, "it is not a model that writes (ForCausalLM)")
    _check_files(directory, writing_files(directory), {""})


def check_adapter(directory: Path) -> None:
    """The same for what LoRA learned beside a base model, as PEFT saves it."""
    config = read_json(directory, ADAPTER)
    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        raise _unusable(directory, "its adapter is not one of LoRA for a model that writes")
    for key in ("auto_mapping", "megatron_config"):  # would be imported by name
        if config.get(key):
            raise InputError(
                f"{directory}: adapter_config.json asks for code of its own ({key})", hint="merge the adapter elsewhere"
            )
    if not (directory / ADAPTER_WEIGHTS).is_file():
        raise _unusable(directory, f"{ADAPTER_WEIGHTS} is missing")
    _check_contents(directory, adapter_files(directory), {""})


def _check_files(directory: Path, names: list[str], places: set[str]) -> None:
    if not (directory / "tokenizer.json").is_file():
        raise InputError(f"{directory} has no tokenizer.json", hint="save the model with its fast tokenizer")
    if (directory / ADAPTER).exists():
        raise InputError(
            f"{directory} holds an adapter, not a whole model", hint="merge it into its base model before saving"
        )
    _check_contents(directory, names, places)


def _check_contents(directory: Path, names: list[str], places: set[str]) -> None:
    for name in names:
        if name.endswith(".json"):
            _check_json(directory, name)
        elif name.endswith(".safetensors"):
            _check_safetensors(directory / name)
    for place in places:
        here = [p for p in (directory / place).iterdir() if p.is_file()] if (directory / place).is_dir() else []
        pickles = sorted(path.name for path in here if path.suffix in _PICKLES)
        if pickles and not any(path.suffix in _WEIGHTS for path in here):
            raise InputError(
                f"{directory / place} has its weights as a pickle ({pickles[0]}), which can run code when it is opened",
                hint="convert it to safetensors, or choose a revision that has safetensors",
            )
    if not any(name.endswith(".safetensors") for name in names):
        raise InputError(f"{directory} has no weights (*.safetensors)", hint="download or save the model again")


def read_modules(directory: Path) -> list[Module]:
    """The steps of the model in order. Raises `InputError` for classes other than the known ones and for odd paths."""
    listed = read_json(directory, "modules.json")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise _unusable(directory, "modules.json is not a list of modules")
    modules = []
    for each in listed:
        package, _, kind = str(each.get("type", "")).rpartition(".")
        place = str(each.get("path", ""))
        if package.split(".")[0] != "sentence_transformers" or kind not in MODULES:
            raise InputError(
                f"{directory}: modules.json names the class {each.get('type')!r}, which Snapdex does not run",
                hint=f"known modules: {', '.join(sorted(MODULES))}",
            )
        if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise _unusable(directory, f"modules.json leads out of the directory: {place!r}")
        modules.append(Module(kind, place))
    return modules


def read_facts(directory: Path) -> FolderFacts:
    """Dimension, window, normalisation and prompts, as sentence-transformers would find them."""
    modules = read_modules(directory)
    config = read_json(directory, "config.json", optional=True)
    dimension = int(config.get("hidden_size", 0))
    for module in modules:
        if module.kind == "Pooling":
            pooling = read_json(directory, f"{module.place}/config.json")
            width = pooling.get("word_embedding_dimension") or pooling.get("embedding_dimension") or dimension
            dimension = int(width) * len(pooling_modes(pooling))
        elif module.kind == "Dense":
            dimension = int(read_json(directory, f"{module.place}/config.json")["out_features"])
    if dimension <= 0:
        raise _unusable(directory, "config.json and modules.json do not say how many dimensions its vectors have")
    settings = read_json(directory, "config_sentence_transformers.json", optional=True)
    if settings.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise _unusable(directory, f"it is a {settings['model_type']}, not a model for dense vectors")
    prompts = settings.get("prompts") or {}
    return FolderFacts(
        dimension,
        window(directory, config),
        modules[-1].kind == "Normalize",
        prompts.get("query") or "",
        prompts.get("document") or prompts.get("passage") or "",
    )


def pooling_modes(config: dict[str, Any]) -> list[str]:
    """Names such as `mean` and `cls`: sentence-transformers 6 has one key, earlier releases a flag for each."""
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        return list(mode) if isinstance(mode, list | tuple) else [str(mode)]
    names = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    flags = [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    return [names.get(flag, flag) for flag in flags]


def shaping_files(directory: Path) -> list[str]:
    """Sorted names, relative to `directory`, of the files that shape vectors: not the model card, not a log."""
    found = set(root_files(directory))
    for module in read_modules(directory):
        if module.place and (directory / module.place).is_dir():
            found.update(
                path.relative_to(directory).as_posix()
                for path in (directory / module.place).rglob("*")
                if path.suffix in _MODULE_SUFFIXES or _is_weights(path)
            )
    return sorted(found)


def root_files(directory: Path) -> list[str]:
    """Sorted names of those files that lie in the directory itself."""
    return sorted(path.name for path in directory.iterdir() if path.name in _ROOT_FILES or _is_weights(path))


def writing_files(directory: Path) -> list[str]:
    """The same for a model that writes: what begins and ends its answers shapes them, too."""
    return sorted({*root_files(directory), *(name for name in _WRITING_FILES if (directory / name).is_file())})


def adapter_files(directory: Path) -> list[str]:
    """The same for an adapter; its tokenizer, where it has one, takes the place of that of the base."""
    return sorted({*writing_files(directory), ADAPTER} - {"config.json"})


def revision_of(hashes: dict[str, str]) -> str:
    """64 hex digits over sorted (relative name, SHA-256 of the file)."""
    lines = "".join(f"{name}\t{sha256}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def hash_files(directory: Path, names: list[str], cache: Path) -> dict[str, str]:
    """SHA-256 by name. `cache` remembers those of files whose size, times and inode have not changed since, unless it
    cannot be written: a reader may have no more than a read-only workspace."""
    known: dict[str, list[Any]] = {}
    with suppress(FileNotFoundError, ValueError):
        known = json.loads(cache.read_text("utf-8"))
    hashes, fresh = {}, {}
    for name in names:
        path = (directory / name).resolve()
        stat = path.stat()
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        entry = known.get(str(path))
        if not (isinstance(entry, list) and entry[:-1] == seen):
            with path.open("rb") as file:
                entry = [*seen, hashlib.file_digest(file, "sha256").hexdigest()]
            fresh[str(path)] = entry
        hashes[name] = str(entry[-1])
    if fresh:
        try:
            atomic_write(cache, json.dumps(known | fresh, indent=1, sort_keys=True))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
    return hashes


def read_json(directory: Path, name: str, *, optional: bool = False) -> Any:
    path = directory / name
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if optional:
            return {}
        raise _unusable(directory, f"{name} is missing") from None
    except (ValueError, RecursionError) as error:
        raise _unusable(directory, f"{name} is not valid JSON") from error


def window(directory: Path, config: dict[str, Any]) -> int:
    """Tokens that fit: what the model was saved with, and never more than it has positions for."""
    limit = read_json(directory, "sentence_bert_config.json", optional=True).get("max_seq_length")
    limit = limit or read_json(directory, "tokenizer_config.json", optional=True).get("model_max_length")
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        positions -= 2  # their first two positions are padding
    known = [int(value) for value in (limit, positions) if value and value < 10**7]  # "no limit" is written as 10^30
    return min(known, default=512)


def _is_weights(path: Path) -> bool:
    return path.suffix in _WEIGHTS or path.name.endswith(".safetensors.index.json")


def _check_json(directory: Path, name: str) -> None:
    content = read_json(directory, name)
    if name.endswith(".safetensors.index.json"):
        for file in set((content.get("weight_map") or {}).values()):
            if PurePosixPath(file).name != file or not (directory / name).with_name(file).is_file():
                raise _unusable(directory, f"{name} names {file!r}, which is not beside it")
        return
    if PurePosixPath(name).name in {"tokenizer.json", "vocab.json"}:
        return  # words, not settings; and they are large
    for key, value in _settings(content):
        if key in CODE_KEYS and value:
            raise InputError(
                f"{directory}: {name} asks for code of its own ({key})", hint="choose a model that needs no custom code"
            )
        if key in KERNEL_KEYS and "/" in str(value):
            raise InputError(
                f"{directory}: {name} asks for code of a hub ({key})", hint="take that key out of the file"
            )
        foreign = key == "activation_function" and not str(value).startswith("torch.nn.modules.activation.")
        if foreign and value not in (None, "torch.nn.modules.linear.Identity"):
            raise _unusable(directory, f"{name} names the class {value!r}")


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _settings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _settings(inner)


def _check_safetensors(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(9)
    size = int.from_bytes(start[:8], "little")
    if len(start) < 9 or size > min(HEADER_BYTES, path.stat().st_size - 8) or start[8:] != b"{":
        raise InputError(
            f"{path} is not a safetensors file, or its header is larger than {HEADER_BYTES >> 20} MiB",
            hint="download the model again; a Git LFS pointer is replaced with `git lfs pull`",
        )


def _unusable(directory: Path, reason: str) -> InputError:
    return InputError(f"{directory} cannot be used: {reason}", hint="choose another model, or save this one again")
