"""The usage flow: the log of searches as a page."""

from pipelines.config import load_config
from pipelines.ingest import run


def test_it_shows_what_readers_asked_for(workspace, snapdex, api):
    from flows.usage import usage

    run(load_config(workspace.params), workspace)
    assert usage(str(workspace.root))["weeks"] == []
    snapdex("search", "refund", "--mode", "lexical", "-k", "1")
    snapdex("search", "xyzzy", "--mode", "lexical")
    report = usage(str(workspace.root), weeks=1)
    (week,) = report["weeks"]
    assert (week["searches"], week["unanswered"]) == (2, 0.5)
    assert report["returned"] == [{"document": "guides/refunds.md", "searches": 1}]
    assert report["never"] == ["guides/failover.md", "notes/glossary.txt"]
    page, empty = api.artifacts("usage-handbook")
    assert "| 2 | 50.0% |" in page and "| 1 | guides/refunds.md |" in page
    assert "## Slowest\n\n| ms | at | mode | query |" in page
    assert "## Never returned: 2\n\n- guides/failover.md\n" in page
    assert "No search was logged" in empty
    assert snapdex("usage", "--weeks", "1") == {**report, "since": str(report["since"])} | {
        "weeks": [{**week, "week": str(week["week"])}],
        "slowest": [{**each, "at": each["at"].isoformat()} for each in report["slowest"]],
    }
