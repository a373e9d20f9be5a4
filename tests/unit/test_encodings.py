"""Text files are read and written in an encoding that is named: Windows has one of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Names of calls that open text, and how many arguments they have up to the encoding.
CALLS = {"read_text": 1, "write_text": 2, "open": 0}


def without_encoding(source: str) -> Iterator[int]:
    """Lines of calls that leave the encoding to the system."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        if getattr(getattr(function, "value", None), "id", "") == "av":  # opens videos
            continue
        if name not in CALLS or "encoding" in {keyword.arg for keyword in node.keywords}:
            continue
        if name == "open":
            # A mode without `b` is text, and so is none where it is Python's own `open`.
            modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
            of_text = [isinstance(mode, str) and set(mode) <= set("rwax+t") for mode in modes]
            if any(of_text) or (isinstance(function, ast.Name) and not modes):
                yield node.lineno
        elif len(node.args) < CALLS[name]:
            yield node.lineno


def test_files_name_their_encoding() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in ("lrm_cli", "model", "train", "examples")
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in without_encoding(path.read_text("utf-8"))
    ]
    assert not places


def test_it_finds_what_it_looks_for() -> None:
    wrong = (
        "p.read_text()",
        "p.write_text(t)",
        "p.open('a')",
        "open(p, 'w')",
        "open(p)",
        "p.open('r+')",
    )
    right = ("p.read_text('utf-8')", "p.write_text(t, 'utf-8')", "p.open('rb')", "scene.open()")
    assert all(list(without_encoding(code)) == [1] for code in wrong)
    assert not any(list(without_encoding(code)) for code in right)
