"""A tree in git at a revision: `git+URL-or-path@rev#directory`. Nothing is checked out.

A repository on this machine is read where it is; one behind a URL is kept as a bare clone, which is fetched in every
run. A blob's id is its stamp, so an unchanged file is known without reading it. Submodules are not entered.
"""

import hashlib
import os
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.collect.listing import MAX_BYTES, Captured, Entry, Listing, hide_secrets, missing, unread
from pipelines.collect.patterns import Rules
from pipelines.collect.uri import to_uri
from pipelines.errors import ConfigError, InputError, ServiceUnavailable, SnapdexError
from pipelines.model import Quarantined, Reason

SCHEMES = ("https", "http", "ssh", "git")  # never `ext::`, which runs a command
LINKS_FOLLOWED = 40  # as many as Linux follows
_HOST = re.compile(r"[a-z]+://[^/]*|[\w.-]+@[\w.-]+:(?!/)")  # of a URL, or of user@host:path
_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFUSED = re.compile(r"not found|denied|authentication|could not read|not appear to be|no such|couldn't find", re.I)
_HINT = "write it as git+URL-or-path@rev#directory, such as git+https://example.org/docs.git@v1.2#handbook"


def parse_git(text: str, base: Path, clones: Path) -> "GitTree":
    """The tree that `text` names. Raises `InputError` where it is malformed or names no directory of this machine."""
    place, _, directory = text.removeprefix("git+").partition("#")
    name = hide_secrets(text)
    if place.startswith("file://"):
        place = unquote(place.removeprefix("file://"))
    host = _HOST.match(place)
    whole = host is None and (base / Path(place).expanduser()).is_dir()  # an @ in the name of a directory
    at = -1 if whole else place.rfind("@")
    revision = "HEAD"
    if at > (host.end() if host else 0):
        place, revision = place[:at], place[at + 1 :] or "HEAD"
    if place.startswith("-") or revision.startswith("-") or "::" in place or (host and "/-" in host[0]):
        raise InputError(f"{name}: this is not safe to pass to git", hint=_HINT)
    directory = directory.strip("/")
    if host:
        _check_url(name, place)
        clone = clones / hashlib.sha256(place.encode("utf-8")).hexdigest()[:16]
        return GitTree(name, clone, place, revision, directory)
    repository = (base / Path(place).expanduser()).resolve()
    if not repository.is_dir():
        raise missing(name, f"does not exist (looked for {repository})")
    return GitTree(name, repository, None, revision, directory)


def _check_url(name: str, url: str) -> None:
    scheme = urlsplit(url).scheme if "://" in url else "ssh"
    if scheme not in SCHEMES:
        raise InputError(f"{name}: git over {scheme} is not supported", hint=f"use one of {', '.join(SCHEMES)}")
    if scheme.startswith("http") and "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{name}: a source must not hold a secret", hint="use git's credential helper, or GIT_ASKPASS, instead"
        )


@dataclass(frozen=True)
class GitTree:
    """`repository` is a directory of this machine: the user's own, or the clone of `url`."""

    name: str
    repository: Path
    url: str | None
    revision: str
    directory: str

    @property
    def key(self) -> str:
        return f"git {self.url or to_uri(os.fsencode(self.repository))}"

    def find(self, rules: Rules) -> Listing:
        listing = Listing()
        blobs, links = self._tree(listing)
        for path in sorted([*blobs, *links]):
            uri = to_uri(path)
            if rule := rules.refusal(uri):
                listing.excluded[rule] += 1
            elif blob := _follow(path, blobs, links):
                listing.entries.append(Entry(uri, blob, blob.decode()))
            else:
                listing.skip(uri, "link that leads to no file of the source")
        return listing

    def read(self, entries: list[Entry]) -> Iterator[Captured | Quarantined]:
        contents = self._contents([entry.where for entry in entries])
        for entry, data in zip(entries, contents, strict=True):
            if data is None:
                yield unread(entry, Reason.TOO_LARGE, f"only {MAX_BYTES:,} bytes are allowed")
            else:
                yield Captured(entry, data)

    def _tree(self, listing: Listing) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        """Files and links of the tree: path to blob id, path to target."""
        commit = self._commit()
        try:
            raw = self._git("ls-tree", "-r", "-z", "--full-tree", f"{commit}:{self.directory}")
        except subprocess.CalledProcessError as error:
            raise InputError(
                f"{self.name}: there is no directory {self.directory} at {self.revision}; nothing was changed",
                hint="check what stands after the #",
            ) from error
        blobs: dict[bytes, bytes] = {}
        links: dict[bytes, bytes] = {}
        for record in raw.split(b"\0")[:-1]:
            facts, _, path = record.partition(b"\t")
            mode, kind, object_id = facts.split()
            if kind == b"commit":
                listing.skip(to_uri(path), "submodule")
            else:
                (links if mode == b"120000" else blobs)[path] = object_id
        targets = self._contents(list(links.values()))
        return blobs, {path: target or b"" for path, target in zip(list(links), targets, strict=True)}

    def _commit(self) -> str:
        if self.url:
            revision = "refs/snapdex/head" if self.revision == "HEAD" else self.revision
            if not (_FULL_ID.fullmatch(revision) and (self.repository / "HEAD").exists() and self._resolve(revision)):
                self._fetch(self.url)
        else:
            revision = self.revision
            try:
                self._git("rev-parse", "--git-dir")
            except subprocess.CalledProcessError as error:
                raise InputError(
                    f"{self.name}: git cannot read {self.repository}: {_said(error)}; nothing was changed",
                    hint="name the root of a repository; a directory of it goes after a #",
                ) from error
        if found := self._resolve(revision):
            return found
        raise InputError(
            f"{self.name}: there is no revision {self.revision}; nothing was changed",
            hint="name a branch, a tag or a commit that is there",
        )

    def _resolve(self, revision: str) -> str | None:
        try:
            return self._git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode().strip()
        except subprocess.CalledProcessError:
            return None

    def _fetch(self, url: str) -> None:
        # HEAD is fetched by name, so that another default branch is noticed.
        wanted = ("+HEAD:refs/snapdex/head", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        self.repository.mkdir(parents=True, exist_ok=True)
        try:
            self._git("init", "--bare", "--quiet")
            self._git("fetch", "--quiet", "--prune", "--no-write-fetch-head", "--", url, *wanted)
        except subprocess.CalledProcessError as error:
            said = _said(error)
            kind: type[SnapdexError] = InputError if _REFUSED.search(said) else ServiceUnavailable
            raise kind(
                f"{self.name} cannot be fetched: {said}; nothing was changed",
                hint="check the address, and whether you may read it without a password prompt",
            ) from error

    def _git(self, *arguments: str) -> bytes:
        return _checked(_command(self.repository, *arguments), _environment(self.repository))

    def _contents(self, blobs: list[bytes]) -> Iterator[bytes | None]:
        """The bytes of each, in order, one at a time; None for one that is too large."""
        if not blobs:
            return
        with tempfile.TemporaryFile() as wanted:
            wanted.writelines(blob + b"\n" for blob in blobs)
            wanted.seek(0)
            command = _command(self.repository, "cat-file", "--batch", "--buffer")
            environment = _environment(self.repository)
            with subprocess.Popen(command, env=environment, stdin=wanted, stdout=subprocess.PIPE) as process:
                assert process.stdout
                for blob in blobs:
                    head = process.stdout.readline().split()
                    if len(head) != 3 or head[1] != b"blob":
                        raise InputError(
                            f"{self.name}: the repository lacks object {blob.decode()}; nothing was changed",
                            hint="complete it with: git fetch --refetch",
                        )
                    size = int(head[2])
                    if size <= MAX_BYTES:
                        yield process.stdout.read(size)
                    else:
                        while size:
                            size -= len(process.stdout.read(min(size, 2**20)))
                        yield None
                    process.stdout.read(1)  # the newline after each object


def _follow(path: bytes, blobs: dict[bytes, bytes], links: dict[bytes, bytes]) -> bytes | None:
    """The blob of a file, or of the file that a link leads to; None where it leads out, in circles, or nowhere."""
    for _ in range(LINKS_FOLLOWED):
        if blob := blobs.get(path):
            return blob
        if path not in links:
            return None
        # An absolute target replaces the path, and one that climbs out begins with "..": neither is in the tree.
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
    return None


def _command(repository: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(repository), "-c", "core.fsmonitor=false", *arguments]


def _environment(repository: Path) -> dict[str, str]:
    """The user's, so that credentials work, without what would name another repository, and without questions."""
    kept = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES}
    return {
        "GIT_HTTP_LOW_SPEED_LIMIT": "1000",  # bytes per second; a server that goes silent is given up after 60 s
        "GIT_HTTP_LOW_SPEED_TIME": "60",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30",
        **kept,
        "GIT_ALLOW_PROTOCOL": ":".join((*SCHEMES, "file")),
        "GIT_CEILING_DIRECTORIES": str(repository.parent),  # a directory inside a repository is not that repository
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


# What git sets for its hooks, among others.
_GIT_PLACES = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX"),
}


def _checked(command: list[str], environment: dict[str, str]) -> bytes:
    try:
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise ConfigError("the program git was not found", hint="install git, or take git+ sources out") from error


def _said(error: subprocess.CalledProcessError) -> str:
    return hide_secrets(" ".join(error.stderr.decode("utf-8", "replace").split())).removeprefix("fatal: ")
