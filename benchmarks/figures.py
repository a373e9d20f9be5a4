"""What a benchmark found, as JSON: printed, and in the file of `--json`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="also write the figures here")


def report_figures(figures: Mapping[str, object], file: Path | None) -> None:
    """Print the figures, and write them to the file if there is one."""
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    write_figures(figures, file)


def write_figures(figures: Mapping[str, object], file: Path | None) -> None:
    """For a benchmark that prints something else: only write to the file, if there is one."""
    if file:
        file.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", "utf-8")
