"""Isolated processes: what a request may do, and what is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from grainscan.errors import ConfigError, GrainscanError, OutputError, VideoError
from grainscan.workers import Ended, Message, Pool, launch, limits, prepare, processors, spread, worker_count


def run(function: str, *requests: Any, **options: Any) -> dict[str, Any]:
    return dict(spread(f"worker_kit:{function}", ((str(request), request) for request in requests), **options))


def faults(results: dict[str, Any]) -> dict[str, str]:
    return {name: result.message for name, result in results.items() if isinstance(result, VideoError)}


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_belong_to_their_request(workers: int) -> None:
    results = run("square", 0, 1, 5, 6, 7, workers=workers)
    assert faults(results) == {"5": "5: odd", "6": "6: cannot be judged: ZeroDivisionError: six"}
    assert results["5"].hint == "Use another."
    assert [results[name] for name in ("0", "1", "7")] == [0, 1, 49]


def test_a_worker_that_dies_costs_its_request_alone() -> None:
    results = run("square", *range(5), workers=2)
    assert faults(results) == {"3": "3: its decoder crashed (SIGSEGV)"}
    assert [results[str(number)] for number in (0, 1, 2, 4)] == [0, 1, 4, 16]


@pytest.mark.slow
def test_a_worker_that_hangs_costs_its_request_alone() -> None:
    requests = [[0.0], [60.0], [1.0] * 6]  # the last takes longer than one may keep silent, and is heard
    results = run("rest", *requests, workers=2, timeout=4.0)
    assert faults(results) == {"[60.0]": "[60.0]: was not decoded within 4 seconds"}
    assert [results[str(request)] for request in (requests[0], requests[2])] == [0.0, 6.0]


@pytest.mark.parametrize("workers", [1, 2])
def test_memory_is_limited_whatever_came_before(workers: int) -> None:
    for order in ([10, 700, 300, 650], [650, 300, 700, 10]):
        results = run("take", *order, workers=workers, memory=0.6e9)
        assert set(faults(results)) == {"700", "650"}
        assert "needs more memory than a worker may use (0.6 GB)" in results["700"].message
        assert "--memory" in results["700"].hint


IN_THIS_PROCESS = """
from test_workers import faults, run
from grainscan.workers import limited

for order in ([10, 700, 300, 650], [650, 300, 700, 10]):
    assert set(faults(run("take", *order, workers=0, memory=0.6e9))) == {"700", "650"}

def steps(size):
    held = []
    for _ in range(4):
        held.append(bytearray(size))
        yield len(held)

assert list(limited(steps(50_000_000), 0.4e9)) == [1, 2, 3, 4]
try:
    list(limited(steps(100_000_000), 0.4e9))
except MemoryError:
    assert len(bytearray(500_000_000)) == 500_000_000  # the limit is gone
    print("done")
"""


def test_memory_is_limited_in_this_process_too() -> None:
    """In a process of its own: this one has kept memory of the tests before, which would be used again."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, "-c", IN_THIS_PROCESS]
    assert subprocess.run(program, env=environment, stdout=subprocess.PIPE, check=True).stdout == b"done\n"


def test_a_worker_that_has_grown_is_replaced() -> None:
    assert len(set(run("who", *range(4), workers=1).values())) == 1
    assert len(set(run("keep", *range(100, 104), workers=1).values())) == 4


@pytest.mark.slow
def test_hundreds_of_replacements_hold_nothing_up() -> None:
    results = dict(spread("worker_kit:keep", ((str(number), 40) for number in range(400)), workers=2))
    assert faults(results) == {} and len(results) == 400


def test_an_error_that_is_not_of_the_request_ends_it_all() -> None:
    for workers in (0, 2):
        with pytest.raises(OutputError, match="the disk is full") as caught:
            run("refuse", *range(5), workers=workers)
        assert caught.value.hint == "Make room."


def test_no_workers_is_this_process() -> None:
    assert set(run("who", 1, 2, workers=0).values()) == {os.getpid()}
    assert os.getpid() not in run("who", 1, 2, workers=1).values()


def test_requests_are_taken_when_a_worker_is_free() -> None:
    done: list[str] = []
    ahead = []

    def requests() -> Any:
        for number in range(7, 15):
            ahead.append(number - 7 - len(done))
            yield str(number), number

    for name, _ in spread("worker_kit:square", requests(), workers=2):
        done.append(name)
    assert len(done) == 8 and max(ahead) <= 3


def test_a_worker_that_is_ended_removes_its_temporary_files(tmp_path: Path) -> None:
    with Pool(1, "worker_kit:write_forever") as pool:
        pool.submit(0, str(tmp_path / "a.txt"), name="a.txt")
        until(lambda: any(file.read_text() == "half" for file in tmp_path.iterdir()))
    assert list(tmp_path.iterdir()) == []


def test_an_array_is_safe_from_the_requests_after_it() -> None:
    with Pool(1, "worker_kit:lend", array_bytes=4000, parse=lambda content, array: (content, array)) as pool:
        events: list[Message | Ended] = []
        for key, request in enumerate(("first", "spoil")):
            pool.submit(key, request, name=request)
            until(lambda: events.extend(pool.wait()) or isinstance(events[-1], Ended))
        found = [event for event in events if isinstance(event, Message)]
        assert [message.content[0] for message in found] == ["first", "spoil"]
        assert set(found[0].content[1]) == {5.0}


def test_a_lost_server_is_replaced() -> None:
    with Pool(1, "worker_kit:who") as pool:
        first = answer(pool)
        assert pool._server.process is not None
        pool._server.process.kill()
        pool._server.process.wait()
        assert answer(pool) == first  # the worker lives on
        os.kill(first, signal.SIGKILL)
        pool.submit(1, None, name="of the dead")
        events: list[Any] = []
        until(lambda: events.extend(pool.wait()) or events)
        assert [type(event) for event in events] == [Ended] and "was lost" in events[0].error.message
        assert answer(pool) != first


def test_a_server_can_be_prepared() -> None:
    modules = ("worker_kit", "worker_kit:learn")
    prepare(modules)
    (launched,) = launch._prepared
    results = [run("teacher", 0, workers=1, preload=["worker_kit:learn"]) for _ in range(2)]
    assert results[0] == {"0": [launched.process.pid]}
    assert len(results[1]["0"]) == 1 and results[1] != results[0]  # of another server, since that one was ended
    assert run("server", 0, workers=1)["0"] not in (launched.process.pid, os.getpid())
    assert not launch._prepared


def test_a_server_that_died_meanwhile_is_replaced() -> None:
    prepare(["worker_kit"])
    (launched,) = launch._prepared
    launched.process.kill()
    launched.process.wait()
    assert run("square", 2, workers=1) == {"2": 4}
    launch._discard()


def test_a_server_that_nobody_needs_ends_with_its_process() -> None:
    script = (
        "from grainscan.workers import launch, prepare; prepare(['worker_kit']); print(launch._prepared[0].process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def answer(pool: Pool) -> int:
    pool.submit(0, None, name="who")
    events: list[Message | Ended] = []
    until(lambda: events.extend(pool.wait()) or any(isinstance(event, Ended) for event in events))
    assert isinstance(events[0], Message)
    return int(events[0].content)


def test_a_function_that_cannot_be_imported_is_said_once() -> None:
    with pytest.raises(GrainscanError, match="cannot start"):
        list(spread("no_such_module:work", [("a", 1)], workers=1))


def test_closing_the_iterator_ends_the_workers(tmp_path: Path) -> None:
    results = spread("worker_kit:rest", [(str(number), [number]) for number in (0, 300)], workers=2)
    assert next(results) == ("0", 0)
    before = set(threading.enumerate())
    results.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_processors_are_those_of_affinity_and_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for text, expected in (("max 100000", 8), ("250000 100000", 3), ("1000 100000", 1), ("9900000 100000", 8)):
        (tmp_path / "cpu.max").write_text(text)
        monkeypatch.setattr(limits, "_QUOTA", tmp_path / "cpu.max")
        assert processors() == expected
    monkeypatch.setattr(limits, "_QUOTA", tmp_path / "nowhere")
    assert processors() == 8


def test_workers_mean_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "processors", lambda: 6)
    assert [worker_count(wanted, 4) for wanted in (-1, 0, 3, 9)] == [4, 0, 3, 4]
    assert worker_count(-1) == 6
    with pytest.raises(ConfigError, match="workers is -2"):
        worker_count(-2, 4)
    monkeypatch.setattr(limits, "isolated", False)
    assert worker_count(3, 4) == 0


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are isolated on POSIX only")
