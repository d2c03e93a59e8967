"""Parsing and embedding as batches of a Prefect task runner: threads, processes, or a Dask or Ray cluster.

A batch puts what it makes into the stores of the workspace, keyed by content. The stage itself runs afterwards, finds
it there and writes the manifest: so the result does not depend on the runner, a batch that is repeated costs a look-up,
and what no batch has done the stage does. Workers share the workspace and nothing else.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import parent_process
from typing import Any, TypeVar

from prefect import Task
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.retries import task_of
from pipelines import embed, parse
from pipelines.config import Config, FlowConfig
from pipelines.errors import ConfigError
from pipelines.files import Workspace

Runner = TaskRunner[Any]
R = TypeVar("R")

BATCH_SECONDS = 3600.0  # of one batch; a document has limits of its own

parse_batch = task_of("parse-batch", parse.parse_batch).with_options(timeout_seconds=BATCH_SECONDS)
embed_batch = task_of("embed-batch", embed.embed_batch).with_options(timeout_seconds=BATCH_SECONDS)


def runner_of(config: FlowConfig) -> AbstractContextManager[Runner | None]:
    """The task runner that the parameters name, started and stopped by `with`; None where stages are not divided.

    Raises `ConfigError` where its package is not installed.
    """
    if config.runner == "local":
        return nullcontext()
    if config.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=config.workers)
    if config.runner == "processes":
        return ProcessPoolTaskRunner(max_workers=config.workers, initializer=end_with_parent)
    try:
        return _dask(config) if config.runner == "dask" else _ray(config)
    except ImportError as error:
        raise ConfigError(
            f"flow.runner is {config.runner}, and {error.name} is not installed",
            hint=f"install the extra: pip install 'snapdex[{config.runner}]'",
        ) from error


def end_with_parent() -> None:
    """Let this process of a pool end when the flow does, however it ends: by itself it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _dask(config: FlowConfig) -> Runner:
    from prefect_dask import DaskTaskRunner

    own = {"n_workers": config.workers, "threads_per_worker": 1, "dashboard_address": None}
    place: dict[str, Any] = {"address": config.address} if config.address else {"cluster_kwargs": own}
    runner: Runner = DaskTaskRunner(**place)
    return runner


def _ray(config: FlowConfig) -> Runner:
    from prefect_ray import RayTaskRunner

    own = {"num_cpus": config.workers, "include_dashboard": False}
    place: dict[str, Any] = {"address": config.address} if config.address else {"init_kwargs": own}
    runner: Runner = RayTaskRunner(**place)
    return runner


def parse_batches(config: Config, workspace: Workspace, runner: Runner | None) -> list[parse.BatchReport]:
    """Parse what is new on the runner's workers; nothing without a runner, or where one batch is all there is."""
    batches = parse.batches(config, workspace) if runner else []
    return _spread(parse_batch, _one_worker(config), workspace, batches, runner)


def embed_batches(config: Config, workspace: Workspace, runner: Runner | None) -> list[embed.BatchReport]:
    """Embed what is new on the runner's workers; nothing without a runner, or where one batch is all there is."""
    batches = embed.batches(config, workspace) if runner else []
    return _spread(embed_batch, config, workspace, batches, runner)


def _spread(
    work: Task[..., R], config: Config, workspace: Workspace, batches: Sequence[Any], runner: Runner | None
) -> list[R]:
    if runner is None or len(batches) < 2:
        return []
    futures = [runner.submit(work, {"config": config, "workspace": workspace, "batch": batch}) for batch in batches]
    return [future.result() for future in futures]


def _one_worker(config: Config) -> Config:
    """Batches are what runs side by side: each parses in one worker process of its own."""
    return config.model_copy(update={"parse": config.parse.model_copy(update={"workers": 1})})
