"""The notice flow: what automations run where nobody has set up a notification yet."""

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact


@flow(name="notice")
def notice(subject: str, detail: str = "") -> None:
    """Log an error and leave an artifact, so that what happened stands where people look.

    Args:
        subject: What happened, in one line.
        detail: What there is to know about it.
    """
    get_run_logger().error("%s %s", subject, detail)
    create_markdown_artifact(f"# {subject}\n\n{detail}\n", key="notice")
