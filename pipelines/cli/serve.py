"""serve."""

import click

from pipelines.cli.app import Settings, common
from pipelines.cli.output import emit_json


@click.command(short_help="Search over HTTP, for readers.")
@click.option("--host", metavar="ADDRESS", help="Where to listen (default: serve.host); beyond loopback with a token.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one (default: serve.port).")
@common
def serve(settings: Settings, host: str | None, port: int | None) -> None:
    """Answer searches over HTTP, with a page to try them, until it is told to end.

    With SNAPDEX_SERVE_TOKEN set, readers must show that token. Without, the service is for this machine alone.

    \b
    snapdex serve
    SNAPDEX_SERVE_TOKEN=$(openssl rand -hex 24) snapdex serve --host 0.0.0.0
    """
    from pipelines.serve.server import serve as run

    config = settings.config

    def ready(url: str) -> None:
        if settings.json:
            emit_json({"index": config.index.name, "url": url})
        else:
            click.echo(f"{config.index.name} is served at {url}")

    run(
        config,
        settings.workspace,
        host=config.serve.host if host is None else host,
        port=config.serve.port if port is None else port,
        ready=ready,
    )
