"""Values and workers on their way from one machine to another: who is let in, what gets lost."""

from __future__ import annotations

import errno
import pickle
import resource
from collections.abc import Callable
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import pytest

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.door import Door
from lrm_cli.batch.handover import Handover, Held, Missed, Passed, Shelf, fetch
from lrm_cli.batch.pipeline import Pipeline
from lrm_cli.batch.remote import Hello
from lrm_cli.batch.work import Outcome, Source, Stage, Task


def test_a_shelf_gives_a_value_once_and_only_to_who_has_its_key() -> None:
    with Shelf("127.0.0.1") as shelf:
        held = shelf.put(b"value")
        with pytest.raises(AuthenticationError):
            fetch(Held(held.address, b"guessed", held.ticket))
        assert fetch(held) == b"value"
        with pytest.raises(EOFError):
            fetch(held)
        shelf.drop(held.ticket)
        dropped = shelf.put(b"other")
        shelf.drop(dropped.ticket)
        with pytest.raises(EOFError):
            fetch(dropped)
    with pytest.raises((OSError, EOFError)):
        fetch(held)


def test_who_cannot_come_in_for_a_moment_comes_in_later(monkeypatch: pytest.MonkeyPatch) -> None:
    accept, failures = Listener.accept, [errno.EMFILE, errno.ECONNABORTED]

    def fail_at_first(listener: Listener) -> Connection:
        if failures:
            raise OSError(failures.pop(), "too many open files")
        return accept(listener)

    monkeypatch.setattr(Listener, "accept", fail_at_first)
    with Shelf("127.0.0.1") as shelf:
        assert fetch(shelf.put(b"value")) == b"value"
    door = Door("127.0.0.1")
    failures += [errno.EMFILE]
    pipes = []
    for number in range(3):
        pipes.append(Client(door.address, authkey=door.key))
        pipes[-1].send(Hello(number, "here", takes_tasks=True))
    numbers: list[int] = []
    while len(numbers) < 3:
        assert door.bell.poll(10)
        numbers += [hello.number for hello, _ in door.arrivals()]
    assert sorted(numbers) == [0, 1, 2]
    door.close()


def test_a_cluster_may_have_more_workers_than_files_are_usual() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        Door("127.0.0.1").close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def told_by(make: Callable[[Callable[[Any], None]], None]) -> Any:
    """The last message of a pipeline."""
    ends, say = Pipe(duplex=False)
    make(say.send)
    message = None
    while not isinstance(message, Outcome | Passed | Missed):
        assert ends.poll(30)
        message = ends.recv()
    return message


def test_what_cannot_be_pickled_or_unpickled_is_its_items_failure(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    task = Task(3, Input(tmp_path / "a", "a", "a"), ())

    def nothing(value: Source) -> Callable[[], None]:
        return lambda: None

    stages = [Stage("prepare", nothing), Stage("write", nothing)]
    with Shelf("127.0.0.1") as shelf:
        message = told_by(lambda say: Pipeline(stages, say, [range(1)], shelf).put(task))
        assert isinstance(message, Outcome)
        assert "pickle" in str(message.failure)
        handover = Handover(task, 1, shelf.put(b"no pickle"))
        message = told_by(lambda say: Pipeline(stages, say, [range(1, 2)], shelf).take(handover))
        assert isinstance(message, Outcome)
        assert "UnpicklingError" in str(message.failure)
        message = told_by(lambda say: Pipeline(stages, say, [range(1, 2)], shelf).take(handover))
        assert message == Missed(3, "it is not there any more")
    assert pickle.loads(pickle.dumps(handover)) == handover
