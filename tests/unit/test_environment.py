"""What a process is set up with before its libraries load."""

from __future__ import annotations

import os

import pytest

from model.environment import keep_to_share, prepare_environment, use_large_pages

NAMES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "THP_MEM_ALLOC_ENABLE",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    "LRU_CACHE_CAPACITY",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is as before when the test ends
        monkeypatch.delenv(name)


def found() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_threads_waits_pages_and_caches() -> None:
    prepare_environment(threads=3)
    assert found() == {
        "OMP_NUM_THREADS": "3",
        "GOMP_SPINCOUNT": "10000",
        "THP_MEM_ALLOC_ENABLE": "1",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
        "LRU_CACHE_CAPACITY": "64",
    }


def test_threads_are_no_more_than_a_container_s_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.environment.visible_cores", lambda: 64)
    monkeypatch.setattr("model.environment.cores", lambda: 64)
    keep_to_share()
    assert not found()
    monkeypatch.setattr("model.environment.cores", lambda: 2)
    keep_to_share()
    assert found() == {"OMP_NUM_THREADS": "2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    keep_to_share()
    assert found() == {"OMP_NUM_THREADS": "5"}


def test_training_wants_large_pages_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use_large_pages()
    assert found() == {"THP_MEM_ALLOC_ENABLE": "1"}
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_large_pages()
    assert found() == {"THP_MEM_ALLOC_ENABLE": "0"}


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "OMP_NUM_THREADS": "7",
        "OMP_WAIT_POLICY": "PASSIVE",
        "THP_MEM_ALLOC_ENABLE": "0",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024",
        "LRU_CACHE_CAPACITY": "1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    prepare_environment()
    assert found() == given
