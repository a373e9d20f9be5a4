"""Stands in for the subprocesses that draw a report's pictures, where only the pages matter."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest

from lrm_cli.isolation import Outcome
from lrm_cli.report.drawn import KINDS
from lrm_cli.report.pictures import Order


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Replace the drawing from now on; returns the list to which (kind, stem) of each is added."""
    drawn: list[tuple[str, str]] = []

    def run(
        make: Callable[..., Any], orders: Iterable[Order], *_: Any
    ) -> Generator[Outcome[Any, Any], None, None]:
        kind = next(kind for kind in KINDS if kind.make is make)
        for order in orders:
            assert order.path.is_file()
            drawn.append((kind.name, order.stem))
            yield Outcome(order, dict.fromkeys(kind.suffixes, b"a picture"), None, 0.0)

    monkeypatch.setattr("lrm_cli.isolation.run_isolated", run)
    return drawn
