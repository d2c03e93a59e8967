"""The entry point: maps every ending to its exit code."""

import errno
import logging
import os
import signal
import sys
from types import FrameType

import click

from pipelines import logs
from pipelines.cli.app import cli
from pipelines.errors import ServiceUnavailable, SnapdexError
from pipelines.silence import be_silent

GOES_ON = "finished work is kept: the same command goes on from there"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Run the command line and exit: 0, or what CONTRACT's table of exit codes says."""
    signal.signal(signal.SIGTERM, _terminated)
    be_silent()
    sys.exit(run(sys.argv[1:]))


class Terminated(BaseException):
    """SIGTERM as an exception, so that finished work is written and worker processes go."""


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def run(arguments: list[str]) -> int:
    try:
        if logs.wanted():
            logs.to_stderr()
        result = cli.main(arguments, prog_name="snapdex", standalone_mode=False)
        sys.stdout.flush()
    except SnapdexError as error:
        return _say(str(error), error.hint, error.exit_code)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "snapdex"
        return _say(error.format_message(), f"{where} --help", 2)
    except click.ClickException as error:
        return _say(error.format_message(), "snapdex --help", 2)
    except (KeyboardInterrupt, click.Abort) as error:
        return _say(str(error) or "interrupted", GOES_ON, 130)
    except Terminated:
        return _say("terminated", GOES_ON, 128 + signal.SIGTERM)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return _say(f"there is no room to write: {error}", f"make room; {GOES_ON}", ServiceUnavailable.exit_code)
    except Exception as error:
        if logs.LOGGER.isEnabledFor(logging.INFO):  # a bug; its traceback follows as text
            logs.event("failed", level=logging.ERROR, exit_code=1, error=type(error).__name__)
        raise
    except SystemExit:  # how click ends when the reader of our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return result if isinstance(result, int) else 0


def _say(message: str, hint: str, exit_code: int) -> int:
    if logs.LOGGER.isEnabledFor(logging.INFO):
        logs.event("failed", level=logging.ERROR, exit_code=exit_code, error=message, hint=hint)
    else:
        click.echo(f"error: {message}\nhint: {hint}", err=True)
    return exit_code


if __name__ == "__main__":
    main()
