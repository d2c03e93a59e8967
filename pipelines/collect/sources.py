"""From what a person writes as a source to the thing that reads it. There is one way to write each kind:

docs                      a directory: URIs are paths relative to it
docs/**/*.md              a glob: URIs are paths relative to its fixed leading directory (here `docs`)
notes.md                  a file: its URI is its name
corpus.jsonl              a BEIR corpus, if its first line has `_id` and `text`: each line is a document
git+URL-or-path@rev#dir   a tree in git at a revision (default: HEAD), or a directory of it
s3://bucket/docs          anything that fsspec opens
"""

import re
from pathlib import Path

from pipelines.collect.beir import BeirCorpus, is_beir
from pipelines.collect.listing import Source, missing
from pipelines.collect.local import Directory, File
from pipelines.errors import InputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_GLOB = re.compile(r"[*?\[]")


def parse_source(text: str, base: Path, clones: Path) -> Source:
    """The source that `text` names; relative paths begin at `base`, git URLs are cloned below `clones`.

    Raises `InputError` for one that does not exist.
    """
    if text.startswith("git+"):
        from pipelines.collect.git import parse_git

        return parse_git(text, base, clones)
    if _URL.match(text):
        from pipelines.collect.remote import Remote

        return Remote.parse(text)
    path = base / Path(text).expanduser()
    try:
        if path.is_dir():
            return Directory(text, path)
        if path.is_file():
            return BeirCorpus(text, path) if path.suffix == ".jsonl" and is_beir(path) else File(text, path)
        if path.exists():
            raise InputError(f"the source {text} is neither a file nor a directory", hint="name one of these")
    except OSError as error:
        raise missing(text, f"cannot be read: {error.strerror}") from error
    if _GLOB.search(text):
        return _glob(text, path)
    raise missing(text, f"does not exist (looked for {path})")


def _glob(text: str, path: Path) -> Source:
    parts = path.parts
    fixed = next(number for number, part in enumerate(parts) if _GLOB.search(part))
    root = Path(*parts[:fixed])
    if not root.is_dir():
        raise missing(text, f"does not exist (there is no directory {root})")
    return Directory(text, root, "/".join(parts[fixed:]))
