"""Loops that numba compiles."""

from __future__ import annotations

import pytest


def test_no_folder_for_compiled_code_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import CacheImpl

    from model.kernels.compiled import compiled

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert compiled(lambda number: number + 1)(2) == 3
