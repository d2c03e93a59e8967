"""What a plan will take: seconds, bytes, money. From what earlier runs on this machine took, where there were any."""

import json
from contextlib import suppress
from pathlib import Path

from pipelines.config import Config
from pipelines.files import Workspace, atomic_write
from pipelines.models import resolve_model

CHUNKS_PER_SECOND = {"hash": 20_000.0, "folder": 20.0, "endpoint": 200.0}  # before this machine has measured its own
INDEXED_PER_SECOND = 2_000.0  # chunks loaded, weighted and linked into the graph
FIXED_SECONDS = 0.5
BYTES_PER_CHUNK = 1_500  # text, places, term weights and their indexes, without the vector
GRAPH_BYTES = 300  # of a vector's node
WORTH_REMEMBERING = 50  # chunks: below this, loading the model is most of the time


def estimate(
    config: Config, workspace: Workspace, *, to_embed: int, added_chunks: int, writing_cost: float = 0.0
) -> dict[str, float]:
    """`seconds` without those of a language model, `bytes` in the database, and `cost` in the currency of the prices in
    `embed` and `generate`."""
    model = resolve_model(config.embed, workspace)
    rate = _rates(workspace).get(model.space, CHUNKS_PER_SECOND[model.kind])
    embedding_cost = to_embed * config.chunk.max_tokens / 1e6 * config.embed.price_per_million_tokens
    return {
        "seconds": round(to_embed / rate + added_chunks / INDEXED_PER_SECOND + FIXED_SECONDS, 1),
        "bytes": added_chunks * (BYTES_PER_CHUNK + GRAPH_BYTES + 4 * model.dimension),
        "cost": round(embedding_cost + writing_cost, 4),
    }


def remember_rate(config: Config, workspace: Workspace, chunks: int, seconds: float) -> None:
    """Keep how fast this model embeds on this machine, for the next estimate."""
    if chunks >= WORTH_REMEMBERING and seconds > 0:
        rates = _rates(workspace) | {resolve_model(config.embed, workspace).space: chunks / seconds}
        atomic_write(_path(workspace), json.dumps(rates))


def _rates(workspace: Workspace) -> dict[str, float]:
    with suppress(FileNotFoundError, ValueError):
        return dict(json.loads(_path(workspace).read_text("utf-8")))
    return {}


def _path(workspace: Workspace) -> Path:
    return workspace.state / "cache" / "rates.json"
