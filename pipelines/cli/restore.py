"""restore."""

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json


@click.command(short_help="Bring a recorded version back, also into an empty database.")
@click.argument("version", metavar="[V|GIT-REV]", required=False)
@click.option("--no-publish", is_flag=True, help="Load and seal it, but leave the active version.")
@click.option("--reason", metavar="TEXT", help="Kept in the log (`snapdex log --moves`).")
@common
def restore(settings: Settings, version: str | None, no_publish: bool, reason: str | None) -> None:
    """Load a recorded version from the files that git and DVC keep, verify it, publish it. Nothing is embedded.

    V is a version that `snapdex run --record` recorded (v3, 3, the beginning of its snapshot id), or any git revision;
    without it, the present manifests of the workspace are taken. All files are checked first: if anything is missing
    or damaged, nothing changes. Afterwards the workspace has the manifests of that version. A scheduled run does not
    undo this: it publishes again when the content has changed since, not before. What was erased, according to any
    branch in git, stays away.

    \b
    git clone REPO handbook && cd handbook && dvc pull && snapdex restore
    snapdex restore v3
    snapdex restore HEAD~1 --no-publish
    """
    from pipelines.restore import restore as bring_back

    with settings.progress() as progress:
        report = bring_back(
            settings.config,
            settings.workspace,
            version,
            publish=not no_publish,
            reason=reason,
            progress=progress,
        )
    if settings.json:
        emit_json(report)
        return
    state = "published" if report["published"] else "is active already" if not no_publish else "not published"
    click.echo(f"{report['index']} v{report['version']}  {report['snapshot'][:12]}  {state}")
    click.echo(f"work       {report['loaded']:,} chunks loaded, 0 embedded, {report['seconds']['total']:.1f} s")
