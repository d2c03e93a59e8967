"""Documents back to files, byte for byte."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pipelines.collect.uri import from_uri
from pipelines.errors import InputError, IntegrityError
from pipelines.files import Store
from pipelines.model import Document


def write_documents(rows: Iterable[Document], store: Store, directory: Path, *, force: bool = False) -> int:
    """Write each document to `directory` under the path that its URI names; the result is how many there were.

    All names are checked before the first file is written: none leads out of `directory`. With `force` a directory
    that is not empty is written into, and files of the same name are replaced.
    """
    if not force and directory.exists() and any(directory.iterdir()):
        raise InputError(f"{directory} is not empty", hint="name a new directory, or add --force to write into it")
    root = os.fsencode(directory.absolute())
    paths: dict[bytes, list[bytes]] = defaultdict(list)
    count = 0
    for row in rows:
        paths[bytes.fromhex(row.content_sha256)].append(_path(row.uri))
        count += 1
    _refuse_file_as_directory({path for group in paths.values() for path in group})
    directory.mkdir(parents=True, exist_ok=True)
    safe: set[bytes] = set()
    for key, data in store.read(paths):
        if hashlib.sha256(data).digest() != key:
            raise IntegrityError(
                f"the stored bytes of {key.hex()} are not those that were collected",
                hint="bring the store back with: dvc checkout, or dvc pull",
            )
        for path in paths[key]:
            _write(root, path, data, safe)
    return count


def _path(uri: str) -> bytes:
    path = from_uri(uri)
    if b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise InputError(
            f"the document {uri} has no place below a directory: its URI is not a relative path; nothing was written",
            hint="exclude it with collect.exclude, or give it another URI in its source",
        )
    return path


def _refuse_file_as_directory(paths: set[bytes]) -> None:
    for path in paths:
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            if (above := b"/".join(parts[:depth])) in paths:
                raise InputError(
                    f"{os.fsdecode(above)} is a document and the directory of another one; nothing was written",
                    hint="a file system cannot hold both; exclude one of them",
                )


def _write(root: bytes, path: bytes, data: bytes, safe: set[bytes]) -> None:
    parent = (root + b"/" + path).rpartition(b"/")[0]
    try:
        if parent not in safe:
            Path(os.fsdecode(parent)).mkdir(parents=True, exist_ok=True)
            real, real_root = os.path.realpath(parent), os.path.realpath(root)
            if real != real_root and not real.startswith(real_root.rstrip(b"/") + b"/"):
                raise InputError(
                    f"{os.fsdecode(parent)} is a link that leads out of the directory", hint="name a new directory"
                )
            safe.add(parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(root + b"/" + path, flags, 0o644), "wb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(
            f"{os.fsdecode(path)} cannot be written: {error.strerror}",
            hint="see that the name fits and the disk has room",
        ) from error
