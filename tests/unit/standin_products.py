"""Work that test_worker_memory.py has done: products of other sizes in each item, as surfaces are.

Nothing heavy is imported before the worker has prepared its environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrm_cli.batch.work import Place, Source, Stage
from model.environment import give_back_memory

SIZES = 8  # of products, in each item


@dataclass(frozen=True)
class Products:
    """The last stage tells the megabytes that the process holds, files and shared ones left out."""

    stage_names = ("multiply", "write")

    def load(self, place: Place) -> Sequence[Stage]:
        return Stage("multiply", multiply), Stage("write", tell)


def multiply(source: Source) -> None:
    """A layer of a NeRF's MLP, of as many points as no other item has."""
    import torch

    from model.fused_linear import activated_linear

    number = int(source.content)
    with torch.inference_mode():
        weight, bias = torch.ones(64, 64), torch.ones(64)
        for points in range(SIZES * number + 1, SIZES * (number + 1) + 1):
            activated_linear(torch.ones(1000 + 16 * points, 64), weight, bias, "relu")


def tell(_: None) -> dict[str, float]:
    """What is held for longer: a worker gives free memory back once a second at most."""
    give_back_memory()
    return {"megabytes": held()}


def held() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024
