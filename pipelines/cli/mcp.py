"""mcp."""

import click

from pipelines.cli.app import Settings, common


@click.command(short_help="Serve the index to models: an MCP server on stdio.")
@common
def mcp(settings: Settings) -> None:
    """Answer a client of the Model Context Protocol on stdin and stdout until it hangs up.

    Its tools, search, ask and versions, only read. Clients start this command themselves; docs/doors.md shows what to
    write into their configuration.

    \b
    snapdex mcp --home /srv/handbook
    """
    from pipelines.mcp import serve

    serve(settings.config, settings.workspace)
