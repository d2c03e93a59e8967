"""A worker process: reads documents from its standard input, parses them, writes results to its standard output.

It closes itself in before the first byte of a document arrives: no network, no core dumps, limited file and memory
size, no environment of the parent, and it dies with its parent. `workers.py` holds the other end.

Frames, both ways: 4 bytes with the length of a JSON head, the head, then as many bytes as its `size` says.
"""

import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import IO, Any

MIB = 2**20
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_LARGEST_FILE_BYTES = 1024 * MIB  # that a library may write to its own temporary directory


def send(stream: IO[bytes], head: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps({**head, "size": len(data)}).encode("ascii")
    stream.write(len(text).to_bytes(4, "big") + text)
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame; None at the end of the stream, also when it ends inside a frame."""
    length = stream.read(4)
    if len(length) < 4:
        return None
    text = stream.read(int.from_bytes(length, "big"))
    if len(text) < int.from_bytes(length, "big"):
        return None
    head = json.loads(text)
    data = stream.read(head["size"])
    return (head, data) if len(data) == head["size"] else None


def main() -> None:
    parent = int(sys.argv[1])
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not write between the frames
    _close_in(parent)
    # thinc, below spaCy, imports torch only to see whether it is there: that costs seconds and a gigabyte.
    sys.modules["torch"] = None  # type: ignore[assignment]
    gc.set_threshold(100_000, 20, 20)  # layouts are many objects and few cycles: a sixth of the time of a long PDF
    serve(sys.stdin.buffer, results)


def serve(requests: IO[bytes], results: IO[bytes]) -> None:
    """Answer each document with `started`, then with its result; return at the end of the requests."""
    from pipelines.config import ParseConfig
    from pipelines.media import sniff
    from pipelines.parse.document import parse_bytes, prepare
    from pipelines.parse.failure import ParseFailure

    while frame := receive(requests):
        head, data = frame
        config = ParseConfig.model_validate(head["config"])
        prepare(sniff(head["media_type"], data))
        before = _address_space()
        _limit_memory(before + config.memory_mib * MIB)
        send(results, {"started": True})
        # Time of this process, not of the clock: a busy machine must not decide what is indexed. Ends the process.
        signal.setitimer(signal.ITIMER_PROF, config.timeout_seconds)
        answer: dict[str, Any] = {}
        result = b""
        try:
            result = parse_bytes(data, head["media_type"], config).to_json().encode("utf-8")
        except ParseFailure as error:
            answer = {"reason": error.reason.value, "detail": error.detail}
        except MemoryError:
            answer = {"reason": "out_of_memory", "detail": "the document does not fit the memory limit"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_memory(resource.RLIM_INFINITY)
        # A process that keeps much after a document, or that ran out of memory, is not trusted with the next one.
        retire = answer.get("reason") == "out_of_memory" or _address_space() - before > config.memory_mib * MIB // 4
        send(results, {**answer, "retire": retire}, result)


def _close_in(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "unshare") and libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)  # may be forbidden too: then only the refusal below remains
    if hasattr(libc, "prctl"):
        # After unshare, because new credentials clear it. Kills this process when its parent dies, however it dies.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the line above
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE_BYTES, _LARGEST_FILE_BYTES))
    for name in ("connect", "connect_ex", "sendto", "bind"):
        setattr(socket.socket, name, _refuse_network)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        setattr(socket, name, _refuse_network)


def _refuse_network(*_: Any, **__: Any) -> Any:
    raise OSError("no network in a parse worker")


def _address_space() -> int:
    """Bytes of address space that this process has now, libraries included; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit_memory(limit_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
