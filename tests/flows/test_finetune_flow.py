"""The finetune flow: a model that is better, and the index published with it."""

import pytest

from pipelines.index import connect, database_url
from pipelines.index.catalog import get_index, versions
from tests.index.state import State
from tests.training.world import SETTINGS, make_world

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def test_it_trains_registers_and_publishes_the_index_with_the_champion(
    tmp_path, database, mlflow_uri, monkeypatch, api
):
    from flows.finetune import finetune

    monkeypatch.setenv("SNAPDEX_DATABASE_URL", database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    world = make_world(State.make(tmp_path / "workspace", database, "index.name=shelf"))
    settings = [*SETTINGS, "index.name=shelf", f"embed.model=path:{world.root / 'base'}"]
    world.with_settings(*settings).run()
    report = finetune(str(world.root), index="shelf", overrides=settings, reindex=True)
    assert report["passed"]
    promotion = report["tracking"]["promotion"]
    assert (promotion["model"], promotion["promoted"]) == ("shelf", True)
    with connect(database_url(world.workspace)) as connection:
        found = versions(connection, get_index(connection, "shelf"))
    assert [(each.number, each.model, each.active) for each in found] == [
        (2, "mlflow:shelf@1", True),
        (1, f"path:{world.root / 'base'}", False),
    ]
    (page,) = api.artifacts("model-shelf")
    assert page.startswith("# shelf\n") and "**pass**" in page and "golden.jsonl" in page
