"""The name of everything that shapes parsed output."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from pipelines.config import ParseConfig

PARSER_VERSION = 1  # raise it with every change of this package that changes what comes out for any document
ENGLISH_MODEL = "en_core_web_sm"
RULES = "rules-1"  # the tokenizer in `language.py`, used where the model is not installed


@cache
def tokenizer_name() -> str:
    """`en_core_web_sm-3.8.0` where that model is installed, else the name of our own rules."""
    try:
        return f"{ENGLISH_MODEL}-{version(ENGLISH_MODEL)}"
    except PackageNotFoundError:
        return RULES


def fingerprint(config: ParseConfig) -> str:
    """Short text that changes when parsed output may change; limits of time and memory are not part of it.

    Reads package metadata only, so that a run with nothing to parse imports no parser.
    """
    packages = [f"{name}-{version(name)}" for name in ("unstructured", "markdown-it-py", "pdfminer.six")]
    return "/".join([f"parse-{PARSER_VERSION}", *packages, tokenizer_name()])
