"""Imports go one way: lrm_cli → train → model, and inside a package only upwards in its list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A package may import itself and those after it.
PACKAGES = ["lrm_cli", "train", "model"]

# A file, or a folder as a whole, may import those that stand above it. A new file is put where
# it belongs before it can be imported.
ORDER = {
    "model": [
        *(
            "settings",
            "config",
            "catalogue",
            "folders",
            "walking",
            "threads",
            "machine",
            "atomic",
            "device",
            "cameras",
            "views",
            "camera_paths",
            "moved_views",
            "frames",
            "decoding",
            "matting",
            "photos",
            "conditioning",
        ),
        *("environment", "kernels", "attention", "fused_linear", "vit", "encoder", "decoder"),
        *("transfers", "triplane", "nerf", "occupancy", "rendering", "cells"),
        *("ray_marching", "field_rendering"),
        *("lrm", "fixed_camera", "graphs", "weights", "published"),
        *("initialization",),
        *("surface", "formats", "rasterizing", "scenes", "metrics", "pretrained"),
    ],
    "train": [
        *(
            "splits",
            "recipe",
            "recipe_files",
            "views",
            "objects",
            "videos",
            "packing",
            "shards",
            "shard_writing",
            "data_identity",
            "shard_tools",
            "pictures",
            "decoded",
            "augmentation",
            "dataset",
            "assumed_camera",
        ),
        *(
            "losses",
            "deferred",
            "field_query",
            "step",
            "recorded_step",
            "muon",
            "optimizer",
            "parallel",
            "loading",
            "heldout",
        ),
        *(
            "validation",
            "card",
            "checkpoint",
            "runlog",
            "costs",
            "plan",
            "trainer",
            "slurm",
            "launch",
        ),
        *("evaluation",),
    ],
    "lrm_cli": [
        *("interruptions", "console", "progress", "options", "isolation", "batch", "carried"),
        *("photo_settings", "render_settings", "evaluate_settings", "report"),
        *(
            *(
                "dataset_bucket",
                "dataset_store",
                "preprocess_inputs",
                "preprocess_photos",
                "preprocess_work",
            ),
            *("preprocess_datasets", "preprocess_kinds", "preprocess"),
            "photo_steps",
            "render_outputs",
            "render_frames",
            "mesh_settings",
            "mesh_files",
            "reconstructor",
            "reconstruct",
            "renderer",
            "render",
            "train",
            *("evaluator", "evaluate_plan", "evaluate_results", "evaluate_compare", "evaluate"),
            "models",
            "app",
        ),
        "__main__",
    ],
}
BATCH_ORDER = [
    *("storage", "sources", "versions", "naming", "own_files", "discovery", "shard"),
    *("ledger_index", "ledger", "made", "leftovers", "bucket"),
    *("work", "division", "staging", "handover", "pipeline", "pools", "workers", "places"),
    *("seats", "retries", "executor", "job", "summary"),
    *("parcels", "messages", "sending", "remote", "broker", "cluster"),
    *("door", "ray_worker", "ray_pool", "command"),
]


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (ROOT / (name.replace(".", "/") + ".py")).exists()
                yield name if is_module or (ROOT / name.replace(".", "/")).is_dir() else node.module


SOURCES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stat().st_size
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package, *place = path.relative_to(ROOT).with_suffix("").parts
    for name in imports_of(path):
        target, *inside = name.split(".")
        if target not in PACKAGES:
            assert target not in ("tests", "benchmarks", "examples"), f"imports {name}"
            continue
        assert PACKAGES.index(target) >= PACKAGES.index(package), f"imports {name}"
        if target != package or place[0] == "__init__" or not inside:
            continue
        own, other = place[0], inside[0]
        if own != other:
            order = ORDER[package]
            assert own in order, f"{own} has no place in the order of {package}"
            assert order.index(other) < order.index(own), f"imports {name}, which stands below"
        elif own == "batch" and place[1] != "__init__":
            assert BATCH_ORDER.index(inside[1]) < BATCH_ORDER.index(place[1]), f"imports {name}"


def test_the_parser_sees_imports_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text("import a.b\nfrom model import cameras\ndef f():\n    from train.x import y\n")
    assert list(imports_of(path)) == ["a.b", "model.cameras", "train.x"]
