"""The supervisor, with small real processes: who dies or goes deaf comes back, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import small

from pipelines.errors import ServiceUnavailable
from pipelines.services import supervisor as module
from pipelines.services.control import wait_until_healthy
from pipelines.services.ports import Ports
from pipelines.services.processes import end, marked, marker
from pipelines.services.state import Place, State, Status, last_line


@pytest.fixture
def place(tmp_path):
    state = tmp_path / ".snapdex"
    state.mkdir()
    yield state
    end(marker(state), grace_seconds=0)


@pytest.fixture
def ports():
    with Ports({}) as held:
        yield [held.settle(f"test{number}", 0) for number in range(2)]


@pytest.fixture
def port(ports):
    return ports[0]


def notes(place: Path, name: str) -> list[str]:
    path = place / name / "notes"
    return path.read_text().splitlines() if path.exists() else []


def is_up(sup, *names):
    return lambda: all(name in sup.state.services and sup.state.services[name].state == "running" for name in names)


def test_who_is_killed_is_started_again_and_others_see_it(place, port):
    sup = small.supervisor(place, small.program(place, "one", port))

    async def story(sup):
        await small.until(is_up(sup, "one"))
        first = sup.state.services["one"]
        assert Place(place).read().services["one"] == first
        os.kill(first.pid, signal.SIGKILL)
        await small.until(lambda: sup.state.services["one"].restarts == 1 and is_up(sup, "one")())
        assert sup.state.services["one"].pid not in (None, first.pid)

    small.run(sup, story)
    stopped = Place(place).read().services["one"]
    assert (stopped.state, stopped.pid, stopped.restarts) == ("stopped", None, 1)
    assert notes(place, "one")[-1] == "one told"
    assert last_line(Place(place).log("one")) == "a line in the log"
    assert marked(marker(place)) == []


def test_who_does_not_answer_is_started_again(place, port):
    sup = small.supervisor(place, small.program(place, "one", port))

    async def story(sup):
        await small.until(is_up(sup, "one"))
        (place / "one" / "deaf").touch()
        await small.until(lambda: sup.state.services["one"].restarts == 1)
        assert sup.state.services["one"].problem == "did not answer 3 times"
        (place / "one" / "deaf").unlink()
        await small.until(is_up(sup, "one"))

    small.run(sup, story)
    assert notes(place, "one").count("one start") == 2


def test_a_pause_grows_between_starts_that_fail(place, port):
    said = []
    sup = small.supervisor(place, small.program(place, "one", port))
    sup.say = said.append
    (place / "one" / "broken").touch()

    async def story(sup):
        await small.until(lambda: "one" in sup.state.services and sup.state.services["one"].restarts == 4)
        (place / "one" / "broken").unlink()
        await small.until(is_up(sup, "one"))

    began = time.monotonic()
    small.run(sup, story)
    assert time.monotonic() - began > 0.1 + 0.2 + 0.4 + 0.4
    assert sum("ended before it was ready" in line for line in said) == 4
    assert "this cannot work" in Place(place).log("one").read_text()


def test_order_of_start_and_stop(place, ports):
    one, two = (small.program(place, name, port) for name, port in zip(("one", "two"), ports, strict=False))
    two.after = ("one",)
    said = []
    sup = small.supervisor(place, two, one)
    sup.say = lambda line: said.append(line.split(" ", 1)[1])
    ready = []
    sup.ready = lambda: ready.append(list(said))

    async def story(sup):
        await small.until(lambda: ready)

    small.run(sup, story)
    assert ready == [["two starting", "one starting", "one running", "two running"]]
    assert said[-2:] == ["two stopped", "one stopped"]


def test_a_service_that_ignores_the_request_to_end_is_killed(place, port):
    sup = small.supervisor(place, small.program(place, "one", port, grace_seconds=0.5))
    (place / "one" / "stubborn").touch()

    async def story(sup):
        await small.until(is_up(sup, "one"))
        story.ended = time.monotonic()

    small.run(sup, story)
    assert 0.5 < time.monotonic() - story.ended < 5
    assert marked(marker(place)) == []


def test_what_a_service_started_ends_with_it(place, port):
    sup = small.supervisor(place, small.program(place, "one", port))
    (place / "one" / "has-runs").touch()

    async def story(sup):
        await small.until(is_up(sup, "one"))
        run = int((place / "one" / "run").read_text())
        os.kill(sup.state.services["one"].pid, signal.SIGKILL)
        await small.until(lambda: not small.lives(run))
        await small.until(is_up(sup, "one"))

    small.run(sup, story)
    assert not small.lives(int((place / "one" / "run").read_text()))


def test_the_runs_of_a_worker_survive_it_and_are_told_before_it(place, port):
    worker = small.program(place, "one", port, spares=True)
    sup = small.supervisor(place, worker)
    (place / "one" / "has-runs").touch()

    async def story(sup):
        await small.until(is_up(sup, "one"))
        run = int((place / "one" / "run").read_text())
        (place / "one" / "has-runs").unlink()
        os.kill(sup.state.services["one"].pid, signal.SIGKILL)
        await small.until(lambda: sup.state.services["one"].restarts == 1 and is_up(sup, "one")())
        assert small.lives(run)

    small.run(sup, story)
    assert notes(place, "one")[-2:] == ["run told", "one told"]
    assert marked(marker(place)) == []


@pytest.mark.parametrize("sentinel_too", [False, True])
def test_nothing_outlives_a_killed_supervisor(place, port, sentinel_too):
    (place / "one").mkdir()
    (place / "one" / "has-runs").touch()
    sup = subprocess.Popen([sys.executable, small.__file__, place, str(port)], stderr=subprocess.DEVNULL)
    service = small.wait_until(lambda: Place(place).read().services.get("one"))
    service = small.wait_until(lambda: (one := Place(place).read().services["one"]).state == "running" and one)
    run = int((place / "one" / "run").read_text())
    assert small.lives(service.pid) and small.lives(run)
    sentinels = [each for each in psutil.Process(sup.pid).children() if "sentinel" in " ".join(each.cmdline())]
    assert len(sentinels) == 1
    if sentinel_too:
        sentinels[0].kill()
    sup.kill()
    sup.wait()
    small.wait_until(lambda: not small.lives(service.pid), 5)  # the kernel does it
    if sentinel_too:
        assert small.lives(run)
        assert end(marker(place), grace_seconds=0) == 1  # what the next `up` or `down` does first
    small.wait_until(lambda: not small.lives(run), 5)
    small.wait_until(lambda: not small.lives(sentinels[0].pid), 5)


def test_a_supervisor_of_another_workspace_is_not_touched(place, port, tmp_path):
    other = tmp_path / ".snapdex2"
    other.mkdir()
    sup = small.supervisor(other, small.program(other, "one", port))

    async def story(sup):
        await small.until(is_up(sup, "one"))
        assert end(marker(place), grace_seconds=0) == 0
        assert is_up(sup, "one")()
        assert small.lives(sup.state.services["one"].pid)

    small.run(sup, story)


def test_a_large_log_makes_room(place, port, monkeypatch):
    monkeypatch.setattr(module, "LOG_BYTES", 10)
    log = Place(place).log("one")
    log.parent.mkdir()
    log.write_text("of last time, and long\n")
    sup = small.supervisor(place, small.program(place, "one", port))

    async def story(sup):
        await small.until(is_up(sup, "one"))

    small.run(sup, story)
    assert log.with_name("one.log.1").read_text() == "of last time, and long\n"
    assert log.read_text() == "a line in the log\n"


def test_a_port_is_kept_and_a_taken_one_is_not_fought_for():
    with Ports({}) as first:
        port = first.settle("prefect", 0)
        assert first.settle("prefect", 4200) == port  # the one it had
        with Ports({"prefect": port}) as second:
            assert second.settle("prefect", port) != port  # spoken for, although nothing listens yet
    with Ports({"prefect": port}) as third:
        assert third.settle("prefect", 4200) == port


def test_one_supervisor_per_workspace(place):
    with Place(place).held() as alone:
        assert alone
        assert Place(place).holder() == os.getpid()
        with Place(place).held() as second:
            assert not second
    assert Place(place).holder() is None


def test_the_file_comes_back_as_it_was_and_a_foreign_one_is_no_state(place):
    state = State(7, "g", "t", {"prefect": 4200}, True, "3", {"a": Status("a", "running", 8, "u", "t", 2, "p", "l")})
    Place(place).write(state)
    assert Place(place).read() == state
    for content in ("", "{}", "[]", '{"services": {"a": {"pid": 1}}}'):
        Place(place).file.write_text(content)
        assert Place(place).read() == State()


def test_a_service_that_never_becomes_healthy_is_an_error_with_the_end_of_its_log(place, port):
    sup = small.supervisor(place, small.program(place, "one", port))
    (place / "one" / "broken").touch()

    async def story(sup):
        await small.until(lambda: "one" in sup.state.services and sup.state.services["one"].restarts >= 3)
        with Place(place).held():
            file = Place(place).read()
            Place(place).write(State(os.getpid(), "g", services=file.services))
            with pytest.raises(ServiceUnavailable, match="one ended before it was ready: this cannot work"):
                wait_until_healthy(Place(place), None, lambda line: None, time.monotonic() + 5)

    small.run(sup, story)
