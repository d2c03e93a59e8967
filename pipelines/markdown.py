"""Text in Markdown that we write."""


def short(text: str, length: int) -> str:
    """The beginning of a text that others wrote, for a cell of a table: no markup of it is one. length: characters."""
    words = " ".join(text.split())
    return cell(words if len(words) <= length else f"{words[: length - 1]}…").replace("<", "&lt;")


def cell(text: str) -> str:
    """Text that stays within its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
