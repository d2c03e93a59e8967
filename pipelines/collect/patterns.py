"""Include and exclude patterns: globs in the manner of .gitignore, matched against document URIs.

`*` and `?` stay inside one path segment, `[a-z]` is one of a set, `**` is any number of segments. A pattern with a
slash at its start or in its middle begins at the root of the source; one without matches at any depth. What matches a
directory matches everything below it; a slash at the end makes it match directories only. `\\` takes the next
character literally. So `**` is everything, `**/.*` hidden files and directories at any depth, `*.md` Markdown
anywhere, `docs/*.md` Markdown right in `docs`. A leading `!` has no meaning: say what to keep with `include`.
Matching is case-sensitive.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.errors import ConfigError

NOT_INCLUDED = "not included"  # the rule that is counted for what no include pattern matches


@dataclass(frozen=True, slots=True)
class Rules:
    """Which URIs are documents: those that an include pattern matches and no exclude pattern does."""

    exclude: tuple[str, ...]
    included: re.Pattern[str]
    excluded: re.Pattern[str] | None

    def refusal(self, uri: str) -> str | None:
        """The rule that keeps `uri` out, or None."""
        return self.pruning(uri) or (None if self.included.fullmatch(uri) else NOT_INCLUDED)

    def pruning(self, uri: str) -> str | None:
        """The exclude pattern that `uri` matches, or None; a directory ends in a slash."""
        found = self.excluded.fullmatch(uri) if self.excluded else None
        return self.exclude[(found.lastindex or 1) - 1] if found else None


def rules(include: Sequence[str], exclude: Sequence[str]) -> Rules:
    """Compile the patterns. Raises `ConfigError` that names one that cannot be used."""
    included = _compile("collect.include", include)
    if included is None:
        raise ConfigError("collect.include is empty, so nothing is a document", hint='for everything: ["**"]')
    return Rules(tuple(exclude), included, _compile("collect.exclude", exclude))


def _compile(key: str, patterns: Sequence[str]) -> re.Pattern[str] | None:
    for pattern in patterns:
        if not pattern.strip("/") or pattern.startswith("!"):
            raise ConfigError(f"{key}: {pattern!r} is not a pattern", hint="examples: **/*.md, drafts/, docs/*.txt")
        try:
            re.compile(translate(pattern))
        except re.error as error:
            raise ConfigError(
                f"{key}: {pattern!r} is not a pattern: {error}", hint="write \\[ for a bracket"
            ) from error
    # One alternative is one group, so the number of the group that matched says which pattern it was.
    return re.compile("|".join(f"({_rule(pattern)})" for pattern in patterns), re.DOTALL) if patterns else None


def _rule(pattern: str) -> str:
    anchored = "/" in pattern[:-1]
    body = translate(pattern.strip("/"))
    return ("" if anchored else "(?:.*/)?") + body + ("/.*" if pattern.endswith("/") else "(?:/.*)?")


_TOKEN = re.compile(
    r"(?P<deep>(?:(?<=/)|^)\*\*/)|(?P<rest>(?:(?<=/)|^)\*\*$)|\*+|\?|\[[!^]?\]?[^]/]*\]|\\.|.", re.DOTALL
)


def translate(pattern: str) -> str:
    """The regular expression, without groups, of a glob that begins at the root and matches to the end."""
    parts = []
    for match in _TOKEN.finditer(pattern):
        token = match[0]
        if match["deep"]:
            parts.append("(?:.*/)?")
        elif match["rest"]:
            parts.append(".*")
        elif token.startswith("*"):
            parts.append("[^/]*")
        elif token == "?":
            parts.append("[^/]")
        elif token.startswith("[") and len(token) > 1:
            negated = token[1] in "!^"
            body = re.sub(r"[]\\[&~|]", r"\\\g<0>", token[1 + negated : -1])
            parts.append(f"(?!/)[{'^' if negated else ''}{body}]")
        else:
            parts.append(re.escape(token[-1]))
    return "".join(parts)
