"""Every error that Snapdex raises on purpose.

The type says what a caller can do about it: `exit_code` is what the command line returns, `retryable` is what a
scheduler asks before it tries again. `str(error)` is one line that says what is wrong; `error.hint` is one line that
says what to do. Errors survive pickling, because they cross process boundaries in parsing and in flows.
"""

from typing import Any, ClassVar


class SnapdexError(Exception):
    """Base of all deliberate errors: a message, a hint, and the facts around them as `context`."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.context)


def _rebuild(kind: type[SnapdexError], message: str, hint: str, context: dict[str, Any]) -> SnapdexError:
    return kind(message, hint=hint, **context)


class ConfigError(SnapdexError):
    """A parameter, an option or the set-up of the workspace is wrong."""

    exit_code = 2


class InputError(SnapdexError):
    """A source, a document or a golden set cannot be used as it is."""

    exit_code = 3


class IntegrityError(SnapdexError):
    """Stored data is not what its hash, its manifest or its snapshot id says."""

    exit_code = 4


class ConflictError(SnapdexError):
    """Somebody else published, or holds the lock."""

    exit_code = 5


class NotFoundError(SnapdexError):
    """The named index, version, tag or document does not exist."""

    exit_code = 6


class GateFailed(SnapdexError):
    """The candidate version is worse than the active one."""

    exit_code = 7


class ServiceUnavailable(SnapdexError):
    """Postgres, an endpoint or another service does not answer: trying again later can help."""

    exit_code = 75
    retryable = True
