"""Answers as traces of a real MLflow store."""

import json
import logging
import warnings
from typing import Any

import pytest

from pipelines.ask import Answerer
from pipelines.index import open_index
from tests.ask.world import QUESTION, with_model
from tests.http_server import Server
from tests.index.state import State

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def ask(state: State) -> None:
    with (
        warnings.catch_warnings(),
        open_index(workspace=state.root, config=state.config, log=True) as reader,
        Answerer(state.config, state.workspace) as answerer,
    ):
        warnings.simplefilter("ignore")
        assert not answerer.ask(reader, QUESTION).abstained


def traces(client: Any) -> list[Any]:
    experiment = client.get_experiment_by_name("handbook answers")
    return list(client.search_traces(locations=[experiment.experiment_id])) if experiment else []


def test_an_answer_has_spans_and_no_text_of_a_document(handbook: State, chat: Server, mlflow: Any) -> None:
    ask(with_model(handbook, chat, "log.traces=1", "log.query=hash"))
    (trace,) = traces(mlflow)
    assert [(span.name, span.span_type) for span in trace.data.spans] == [
        ("ask", "CHAIN"),
        ("search", "RETRIEVER"),
        ("generate", "LLM"),
    ]
    root, search, generate = trace.data.spans
    assert root.start_time_ns <= search.start_time_ns <= search.end_time_ns <= generate.end_time_ns <= root.end_time_ns
    assert len(search.outputs) == 3 and root.outputs["supported"] == 1
    assert trace.info.tags["snapdex.version"] == "1"
    told = json.dumps(trace.to_dict())
    assert "standby" not in told and "MiB" not in told and "question_sha256" in told


def test_by_default_and_without_mlflow_nothing_is_traced(
    handbook: State, mlflow: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask(handbook)
    assert traces(mlflow) == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, "snapdex"):
        ask(handbook.with_settings("log.traces=1"))
    assert "has no trace" in caplog.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    ask(handbook.with_settings("log.traces=1"))
