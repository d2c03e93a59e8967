"""The maintain flow: forget what retention does not keep, give its room back, and check what readers see."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State

from flows import events, reporting
from flows.retries import stage
from pipelines import operate
from pipelines.errors import ConflictError, IntegrityError
from pipelines.prune import prune
from pipelines.verify import verify

forget_versions = stage("forget", operate.forget)
prune_rows = stage("prune", prune)
verify_version = stage("verify", verify)


@flow(name="maintain", flow_run_name=reporting.run_name, on_failure=[reporting.failed])
def maintain(
    home: str = ".",
    index: str = "",
    dry_run: bool = False,
    overrides: list[str] | None = None,
    wait_seconds: float = 600,
) -> dict[str, Any] | State[Any]:
    """Forget versions by the section `retention`, prune, and verify the active version.

    Args:
        home: Directory of the workspace, the one with params.yaml.
        index: Name of the index; empty for index.name of params.yaml.
        dry_run: Only say what would go.
        overrides: Parameters as section.key=value, such as retention.keep_last=5.
        wait_seconds: How long to wait for another run in the workspace before giving up without a failure.
    """
    config, workspace = reporting.opened(home, index, overrides)
    forgotten = forget_versions(config, workspace, dry_run=dry_run)
    try:
        pruned = prune_rows(config, workspace, dry_run=dry_run, wait_seconds=wait_seconds)
    except ConflictError as error:
        return reporting.skipped(f"{error}: nothing was pruned")
    verified = verify_version(config, workspace, "active")
    create_markdown_artifact(
        page(config.index.name, forgotten, pruned, verified), key=reporting.key("maintain", config)
    )
    if verified["problems"]:
        raise IntegrityError(
            f"v{verified['version']} is not what its id says, or files are damaged: {verified['problems'][0]}",
            hint="serve another version: the flow rollback; bring files back: dvc checkout --force",
        )
    events.run_finished(config, version=verified["version"], forgotten=len(forgotten["forget"]))
    return {"index": config.index.name, "forget": forgotten, "prune": pruned, "verify": verified}


def page(name: str, forgotten: dict[str, Any], pruned: dict[str, Any], verified: dict[str, Any]) -> str:
    """What was planned and done, as Markdown."""
    plan = "".join(f"| v{number} | keep | {', '.join(why)} |\n" for number, why in forgotten["keep"].items())
    plan += "".join(f"| v{number} | forget | no rule keeps it |\n" for number in forgotten["forget"])
    rows = "".join(f"| {table} | {count:,} rows | |\n" for table, count in pruned["rows"].items() if count)
    rows += "".join(
        f"| {store} | {each['entries']:,} entries | {each['bytes'] / 2**20:.1f} MiB |\n"
        for store, each in pruned["store"].items()
        if each["entries"]
    )
    problems = "".join(f"- {problem}\n" for problem in verified["problems"])
    what = "would go (dry run)" if pruned["dry_run"] else "gone"
    return (
        f"# {name}: {len(forgotten['forget'])} versions {what}\n\n"
        f"| version | plan | why |\n|---|---|---|\n{plan}\n"
        f"## Pruned\n\n"
        + (f"| where | {what} | |\n|---|---|---|\n{rows}\n" if rows else "Nothing.\n\n")
        + f"## Verified v{verified['version']}\n\n{problems or 'What its id says, and the files agree.'}\n"
    )
