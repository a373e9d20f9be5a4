"""`lrm evaluate --compare`: evaluations beside each other."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path

from lrm_cli import console
from lrm_cli.batch.job import make_folder


def compare_scores(paths: Sequence[str], out: Path | None, *, json: bool, report: bool) -> None:
    """Show how far each method is from the first, and write it down where a folder is given."""
    from train.evaluation.comparison import COLUMNS, comparison_json, comparison_rows
    from train.evaluation.scores import markdown_table, read_scores

    with console.usage_errors():
        if report and out is None:
            raise ValueError("--report needs --out, the folder for it")
        methods = [read_scores(Path(path)) for path in paths]
        rows = comparison_rows(methods)
        if out is not None:
            make_folder(out)
    if json:
        console.print_json(comparison_json(methods))
    else:
        left, right = COLUMNS[:2], COLUMNS[2:]
        title = f"Protocol {methods[0].protocol['name']}; differences from {methods[0].method}"
        console.print_table([*left, *(f">{name}" for name in right)], rows, title)
    if out is None:
        return
    from model.formats.atomic import write_atomically

    write_atomically(out / "comparison.md", markdown_table(COLUMNS, rows).encode())
    text = json_module.dumps(comparison_json(methods), indent=1) + "\n"
    write_atomically(out / "comparison.json", text.encode())
    if report:
        from lrm_cli.report.evaluation import write_comparison

        places = [Path(path) if Path(path).is_dir() else Path(path).parent for path in paths]
        page = write_comparison(methods, rows, places, out)
        if not json:
            console.result(f"Report: {page}")
