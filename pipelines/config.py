"""`params.yaml` as typed, frozen sections: one section per stage, unknown keys and wrong types refused by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.errors import ConfigError

FIVE_FIELDS = r"^\s*\S+(\s+\S+){4}\s*$"
MODEL_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"  # of a fine-tuned model: a directory, a stage of DVC, a name in MLflow


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class IndexConfig(Section):
    name: str = Field("handbook", pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")
    language: str = "english"  # of word stems and stop words in lexical search; fixed when the index is made
    average_terms: int = Field(100, gt=0)  # the length that BM25 calls average; fixed when the index is made


class CollectConfig(Section):
    sources: list[str] = ["data/sample"]
    include: list[str] = ["**"]
    exclude: list[str] = []
    hidden: bool = False  # whether hidden files and those of editors are documents too
    mass_delete_share: float = Field(0.3, ge=0, le=1)  # both must be passed for the guard to stop a run
    mass_delete_documents: int = Field(10, ge=0)


class ParseConfig(Section):
    workers: int = Field(0, ge=0)  # 0: one per core
    timeout_seconds: float = Field(60.0, gt=0)  # of processor time per document; by the clock four times that
    memory_mib: int = Field(2048, ge=256)  # per worker process
    max_file_mib: int = Field(128, gt=0)
    max_text_mib: int = Field(32, gt=0)  # of extracted text: what an archive bomb would exceed


class ChunkConfig(Section):
    max_tokens: int = Field(256, ge=16)  # of the embedded text, context and special tokens included
    min_tokens: int = Field(32, ge=0)  # smaller pieces are joined to a neighbour where both fit
    overlap_tokens: int = Field(0, ge=0)
    context: Literal["none", "title", "section", "model"] = "section"  # what is put before a chunk when it is embedded
    method: Literal["structural", "semantic"] = "structural"  # semantic: within a section, where its topic changes
    topic_percentile: int = Field(90, ge=0, le=100)  # semantic: how few of a section's joints are a change of topic


class EmbedConfig(Section):
    model: str = "minilm"
    batch_tokens: int = Field(2048, gt=0)
    threads: int = Field(0, ge=0)  # 0: what the library chooses
    query_prefix: str = ""
    passage_prefix: str = ""
    endpoint: str = ""  # openai: base URL; the key comes from the environment (OPENAI_API_KEY)
    dimension: int = Field(0, ge=0)  # openai: ask for this many dimensions; 0: what the model gives
    requests_per_minute: int = Field(0, ge=0)
    price_per_million_tokens: float = Field(0.0, ge=0)  # for the estimate of `plan`

    def with_model(self, name: str) -> Self:
        """The same for another model."""
        return self.model_copy(update={"model": name})


class GenerateConfig(Section):
    """The language model that writes contexts of chunks and questions."""

    model: str = ""  # openai:MODEL, path:DIR, hf:NAME@COMMIT, mlflow:NAME@ALIAS; empty: none
    endpoint: str = ""  # openai: base URL; the key comes from the environment (OPENAI_API_KEY)
    max_tokens: int = Field(512, gt=0)  # of an answer
    temperature: float = Field(0.0, ge=0)  # 0: always the likeliest token
    concurrency: int = Field(4, gt=0)  # conversations at a time: requests of an endpoint, or one batch
    threads: int = Field(0, ge=0)  # of a model that runs here; 0: what the library chooses
    requests_per_minute: int = Field(0, ge=0)
    timeout_seconds: float = Field(120.0, gt=0)  # without a byte from an endpoint
    price_per_million_prompt_tokens: float = Field(0.0, ge=0)  # for estimates
    price_per_million_completion_tokens: float = Field(0.0, ge=0)

    def with_model(self, name: str) -> Self:
        """The same for another model."""
        return self.model_copy(update={"model": name})

    def greedy(self) -> Self:
        """The same, but always with the likeliest token: what is measured is measured so."""
        return self.model_copy(update={"temperature": 0.0})


class SearchConfig(Section):
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    k: int = Field(10, gt=0)
    dense_weight: Literal["learned"] | Annotated[float, Field(ge=0, le=1)] = "learned"  # share of the dense score
    false_refusals: float = Field(0.05, ge=0, lt=1)  # share of answerable queries that may be refused; 0: none is
    fusion: Literal["convex", "rrf"] = "convex"  # of both scores with that weight, or of ranks alone
    mmr: bool = False  # whether hits that say something else than better ones are preferred
    mmr_lambda: float = Field(0.8, ge=0, le=1)  # share of relevance in that
    collapse: float = Field(1.0, ge=0, le=1)  # cosine similarity to a better hit from which one is left out; 1: none is
    expand: Literal["chunk", "section", "neighbours"] = "chunk"  # what a hit shows
    rerank: bool = False  # whether a reranker puts the best hits in order
    reranker: str = "late-interaction"  # or a cross-encoder: path:DIR, hf:NAME@COMMIT, mlflow:MODEL@ALIAS
    rerank_depth: int = Field(30, gt=0)  # hits that it reads
    cache: int = Field(1000, ge=0)  # answers that an open reader remembers; 0: none


class AskConfig(Section):
    """How questions are answered."""

    context_tokens: int = Field(3000, gt=0)  # of passages that a model is shown
    hops: int = Field(1, ge=1, le=5)  # steps that a model splits a question into, at most; 1: none
    alone_above: float = Field(0.0, le=0)  # mean log probability from which a model answers without search; 0: never


class GateConfig(Section):
    golden: str = ""  # path of a golden set, from the workspace; empty: no gate
    metric: Literal[
        "ndcg@10", "recall@5", "recall@10", "recall@100", "precision@1", "precision@5", "precision@10", "mrr@10"
    ] = "ndcg@10"
    tolerance: float = Field(0.02, ge=0)  # how much worse a candidate may be
    min_queries: int = Field(20, ge=1)  # answerable ones; fewer cannot tell
    confidence: float = Field(0.95, gt=0, lt=1)  # of the interval of the difference
    undecided: Literal["difference", "publish", "refuse"] = "difference"  # what to do where the interval does not tell


class PairsConfig(Section):
    """What an embedding model is fine-tuned with: questions and the chunks that answer them."""

    judgements: str = ""  # path of a golden set (of one in BEIR layout, its `qrels/train.tsv`), or of pairs
    mined: int = Field(1000, ge=0)  # pairs that are taken from the corpus itself, at most
    synthetic: int = Field(0, ge=0)  # chunks that generate.model writes a question for
    negatives: int = Field(1, ge=0, le=16)  # hard ones for each pair: chunks that search finds and nobody judged good
    negatives_below: float = Field(0.95, gt=0, le=1)  # of the positive's similarity: nearer chunks may be answers too
    held_out: float = Field(0.1, ge=0, lt=1)  # share of the groups that are not learned from
    seed: int = 0


class FinetuneConfig(Section):
    """How an embedding model is fine-tuned. Defaults: batch, rate and scale of MultipleNegativesRanking for MiniLM."""

    base: str = ""  # the model to begin with, as in embed.model; empty: that one
    method: Literal["full", "lora"] = "full"
    lora_rank: int = Field(32, gt=0)
    epochs: int = Field(2, gt=0)
    batch: int = Field(16, gt=1)  # pairs; every other positive of a batch is a negative, too
    learning_rate: float = Field(2e-5, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1)  # share of the steps in which the rate rises
    max_tokens: int = Field(256, ge=16)  # longer texts are cut while training, not later
    dimensions: list[Annotated[int, Field(gt=0)]] = []  # Matryoshka: shorter vectors that should be good as well
    teacher: str = ""  # a cross-encoder whose scores are learned, as in search.reranker; empty: none
    evaluations: int = Field(2, gt=0)  # on the held-out pairs, in each epoch; a checkpoint each
    patience: int = Field(3, gt=0)  # evaluations without progress after which training ends
    seed: int = 0


class EvaluateModelConfig(Section):
    """When a fine-tuned model is better than the one in use."""

    off_domain: list[str] = []  # BEIR directories with `corpus.jsonl`: what must not be forgotten
    forgetting: float = Field(0.005, ge=0)  # mean loss of nDCG@10 on those that is allowed
    max_chunks: int = Field(20_000, gt=0)  # of the index that are embedded for it; those of judged documents always


class BehaviourConfig(Section):
    """How a language model is fine-tuned, and when the result is better than the model that it is compared with."""

    data: str = ""  # path of a JSONL file of chats (sft) or preferences (dpo)
    evaluation: str = ""  # another such file, which the model is judged by; empty: the held-out part of the data
    checks: str = ""  # path of a JSON file: what every answer must fulfil
    held_out: float = Field(0.1, ge=0, lt=1)  # share of the groups of the data that are not learned from
    base: str = ""  # the model to begin with, as in generate.model; empty: that one
    method: Literal["lora", "qlora", "full"] = "lora"
    lora_rank: int = Field(16, gt=0)
    epochs: int = Field(3, gt=0)
    batch: int = Field(8, gt=0)
    learning_rate: float = Field(2e-4, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1)  # share of the steps in which the rate rises
    max_tokens: int = Field(1024, ge=16)  # of prompt and answer; longer examples are left out, and told
    evaluations: int = Field(2, gt=0)  # of the loss on the held-out part, in each epoch; a checkpoint each
    patience: int = Field(3, gt=0)  # evaluations without progress after which training ends
    judged: int = Field(200, gt=0)  # held-out examples that are answered for the judgement, at most
    answer_tokens: int = Field(256, gt=0)  # of such an answer
    metric: Literal["format", "constraints", "exact_match", "f1", "rouge_l", "preferred"] = "format"
    general: str = ""  # path of a text file, or of a JSONL file with texts: what must not be unlearned
    general_chats: str = ""  # path of a JSONL file of chats that the base can answer
    forgetting: float = Field(0.1, ge=0)  # growth of the perplexity of those texts, and loss on those chats, allowed
    seed: int = 0


class SftConfig(BehaviourConfig):
    """Supervised fine-tuning on chats."""


class DpoConfig(BehaviourConfig):
    """Direct preference optimisation; begin with a model that was fine-tuned on chats."""

    learning_rate: float = Field(5e-6, gt=0)
    epochs: int = Field(1, gt=0)
    metric: Literal["format", "constraints", "exact_match", "f1", "rouge_l", "preferred"] = "preferred"
    beta: float = Field(0.1, gt=0)  # how far the model may go from where it began; less is further


class CompareConfig(Section):
    """How remedies are compared: what is measured, and what a person says about the case."""

    metric: Literal["exact_match", "f1", "rouge_l"] = "f1"  # of an answer; 0 where its format or a constraint is broken
    instructions: str = ""  # what the system says; empty: what the examples have in common, or words of our own
    shots: int = Field(3, gt=0)  # examples in the prompt
    nearest: bool = True  # those whose question is nearest by embed.model; else the first ones
    context_tokens: int = Field(1500, gt=0)  # of sources in a prompt
    volume: int = Field(10_000, gt=0)  # questions a month
    knowledge_changes: Literal["", "never", "yearly", "monthly", "weekly", "daily"] = ""  # empty: nobody said
    citations: bool = False  # whether an answer has to name its source
    latency_seconds: float = Field(0.0, ge=0)  # that 95 of 100 answers may take at most; 0: any
    examples: int = Field(0, ge=0)  # chats at hand to learn from; 0: as many as were given


class LanguageModel(Section):
    """A fine-tuned language model that `dvc repro` makes."""

    kind: Literal["sft", "dpo"]  # the section that says how
    data: str  # path of its data, which DVC has to know; it goes before that of the section


class RetentionConfig(Section):
    keep_last: int = Field(10, ge=0)  # versions
    keep_daily: int = Field(30, ge=0)  # of the last so many days that have one, the newest version
    keep_tagged: bool = True


class LogConfig(Section):
    """What is kept of the searches of readers."""

    share: float = Field(1.0, ge=0, le=1)  # of the searches that are logged; 0: none
    query: Literal["none", "hash", "text"] = "none"  # what is kept of the query
    keep_days: int = Field(90, ge=0)
    traces: float = Field(0.0, ge=0, le=1)  # of the answers that MLflow gets a trace of, where it is configured


class ServeConfig(Section):
    """The HTTP service for readers, `snapdex serve`."""

    host: str = "127.0.0.1"  # any other than loopback needs SNAPDEX_SERVE_TOKEN
    port: int = Field(8321, ge=0, le=65535)  # 0: a free one
    connections: int = Field(8, gt=0)  # to Postgres, and so searches at a time
    waiting: int = Field(100, ge=0)  # requests that may wait for one of them; more are refused
    requests_per_minute: int = Field(0, ge=0)  # of a token, or of an address that shows none; 0: any number
    most_k: int = Field(100, gt=0, le=10_000)  # hits that a request may ask for
    most_characters: int = Field(2000, gt=0)  # of a query
    most_body_kib: int = Field(256, gt=0)  # of a request
    timeout_seconds: float = Field(30.0, gt=0)  # of a statement
    grace_seconds: int = Field(20, gt=0)  # that requests in progress have when the service is told to end


class FlowConfig(Section):
    """How the stages of a scheduled run are spread over processes and machines; the result does not depend on it."""

    runner: Literal["local", "threads", "processes", "dask", "ray"] = "local"  # local: the whole stage in one process
    workers: int = Field(2, gt=0)  # tasks at a time; not for a cluster that is there already
    address: str = ""  # dask, ray: of a running cluster; empty: one is started for the run
    batch_documents: int = Field(200, gt=0)  # of a task that parses; those that embed get as many chunks in proportion


class Schedule(Section):
    """A deployment that runs by the clock."""

    flow: Literal["ingest", "evaluate", "maintain", "finetune", "usage"] = "ingest"
    index: str = ""  # empty: index.name
    cron: str = Field(pattern=FIVE_FIELDS)  # minute, hour, day of the month, month, day of the week
    timezone: ZoneInfo = ZoneInfo("UTC")  # an IANA name, such as Europe/Berlin
    sources: list[str] = []  # ingest; empty: collect.sources
    overrides: list[str] = []  # section.key=value, as after --set
    record: bool = False  # ingest: DVC and git too
    kind: Literal["embedding", "sft", "dpo"] = "embedding"  # finetune: what is fine-tuned
    model: str = ""  # finetune: its name; empty: that of the index
    reindex: bool = False  # finetune: embed the index with the embedding model if it is better, and publish that


class Config(Section):
    """All parameters. `Config()` is what a workspace without a `params.yaml` would get."""

    index: IndexConfig = IndexConfig()
    collect: CollectConfig = CollectConfig()
    parse: ParseConfig = ParseConfig()
    chunk: ChunkConfig = ChunkConfig()
    embed: EmbedConfig = EmbedConfig()
    generate: GenerateConfig = GenerateConfig()
    search: SearchConfig = SearchConfig()
    ask: AskConfig = AskConfig()
    gate: GateConfig = GateConfig()
    pairs: PairsConfig = PairsConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate_model: EvaluateModelConfig = EvaluateModelConfig()
    sft: SftConfig = SftConfig()
    dpo: DpoConfig = DpoConfig()
    compare: CompareConfig = CompareConfig()
    retention: RetentionConfig = RetentionConfig()
    log: LogConfig = LogConfig()
    serve: ServeConfig = ServeConfig()
    flow: FlowConfig = FlowConfig()
    models: list[Annotated[str, Field(pattern=MODEL_NAME)]] = []  # that `dvc repro` fine-tunes
    language_models: dict[Annotated[str, Field(pattern=MODEL_NAME)], LanguageModel] = {}  # likewise
    schedules: list[Schedule] = []

    def with_index(self, name: str) -> Self:
        """The same parameters for another index."""
        return self.model_copy(update={"index": self.index.model_copy(update={"name": name})})

    def with_model(self, name: str) -> Self:
        """The same parameters with another `embed.model`."""
        return self.model_copy(update={"embed": self.embed.with_model(name)})

    @property
    def base(self) -> EmbedConfig:
        """The model that fine-tuning begins with."""
        return self.embed.with_model(self.finetune.base or self.embed.model)

    @property
    def base_key(self) -> str:
        """The parameter that names it."""
        return "finetune.base" if self.finetune.base else "embed.model"


def load_config(path: Path, overrides: list[str] | None = None, *, index: str | None = None) -> Config:
    """The parameters in `path`, with `section.key=value` overrides on top, and the name of the index if it is given.

    Raises `ConfigError` that names the key, and where it is said, for anything unknown or of the wrong type.
    """
    try:
        raw = yaml.safe_load(path.read_text("utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="make a workspace with: snapdex init DIR") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}", hint="correct the file") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold sections, such as `index:`", hint="see docs/configuration.md")
    said: dict[tuple[str, ...], str] = {(str(section),): str(path) for section in raw}  # where it is said
    for override in overrides or []:
        section, name = _apply_override(raw, override)
        said[section, name] = f"--set {section}.{name}"
        said.setdefault((section,), said[section, name])
    if index is not None:
        values = raw.get("index") or {}
        raw["index"] = values | {"name": index} if isinstance(values, dict) else values
        said["index", "name"] = "--index"
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise _config_error(error, said, str(path)) from None


def _apply_override(raw: dict[str, Any], override: str) -> tuple[str, str]:
    """Set it, and return its section and its key."""
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"--set {override!r} is not section.key=value", hint="example: --set chunk.max_tokens=200")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: the value is not valid YAML", hint="quote it, or write it simpler") from error
    values = raw.setdefault(section, {}) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"--set {key}: {section} is no section with keys", hint="see docs/configuration.md")
    raw[section] = values | {name: "" if value is None else value}
    return section, name


def _config_error(error: ValidationError, said: Mapping[tuple[str, ...], str], path: str) -> ConfigError:
    """said: where a section, or a key of one, is said, if not in the file at `path`."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = said.get(tuple(map(str, first["loc"][:2])), path)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{where}: unknown key {key}", hint=f"known keys: {_known_keys(first['loc'])}", key=key)
    message = first["msg"][0].lower() + first["msg"][1:]
    named = where if where.endswith(key) else f"{where}: {key}"
    return ConfigError(f"{named}: {message}, got {first['input']!r}", hint="see docs/configuration.md", key=key)


def _known_keys(location: tuple[int | str, ...]) -> str:
    fields = Config.model_fields
    if len(location) > 1 and location[0] in fields:
        annotation = fields[str(location[0])].annotation
        section = [annotation, *get_args(annotation)][-1]  # of a list or a dictionary, what it holds
        assert isinstance(section, type) and issubclass(section, Section)
        fields = section.model_fields
    return ", ".join(fields)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
