"""The bounded threads, real ones."""

from __future__ import annotations

import threading

import pytest
import pytest_twisted
from twisted.internet import reactor

from mta.sasl.refusal import BackendUnavailable
from mta.sasl.threads import BoundedThreads


@pytest.fixture
def threads():
    threads = BoundedThreads(reactor, threads=2, waiting=1)
    threads.start()
    yield threads
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_work_runs_outside_the_reactor_s_thread(threads):
    assert await threads.run(threading.get_ident) != threading.get_ident()


@pytest_twisted.ensureDeferred
async def test_what_finds_the_queue_full_is_told_at_once_and_the_rest_is_done(threads):
    go = threading.Event()
    running = [threads.run(go.wait, 10) for _ in range(3)]
    with pytest.raises(BackendUnavailable):
        await threads.run(go.wait, 10)
    go.set()
    assert [await one for one in running] == [True] * 3
    assert await threads.run(lambda: "room again") == "room again"


@pytest_twisted.ensureDeferred
async def test_before_start_and_after_stop_nothing_is_promised():
    idle = BoundedThreads(reactor)
    with pytest.raises(BackendUnavailable):
        await idle.run(threading.get_ident)
    idle.start()
    idle.stop()
    with pytest.raises(BackendUnavailable):
        await idle.run(threading.get_ident)


@pytest_twisted.ensureDeferred
async def test_what_fails_frees_its_place(threads):
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
