"""`lrm evaluate --compare`: evaluations beside each other."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrm_cli import console
from lrm_cli.batch import storage
from lrm_cli.batch.job import make_folder

if TYPE_CHECKING:
    from train.evaluation.scores import Scores


WITH_COMPARE = ("compare", "out", "report", "json", "quiet", "debug")  # all others are refused


def compare_scores(
    paths: Sequence[str], out: Path | None, *, json: bool, quiet: bool, report: bool
) -> None:
    """Show how far each method is from the first, and write it down where a folder is given."""
    from train.evaluation.comparison import COLUMNS, comparison_json, comparison_rows
    from train.evaluation.scores import markdown_table, read_scores

    with console.usage_errors():
        if report and out is None:
            raise ValueError("--report needs --out, the folder for it")
        if "" in paths:  # as of a variable that is not set, and to `Path` the current folder
            raise ValueError("an evaluation's name is empty")
        for path in (out or "", *paths):
            storage.require_local(Path(path), "evaluations to compare")
        methods = [read_scores(Path(path)) for path in paths]
        rows = comparison_rows(methods)
        if out is not None:
            make_folder(out)
    if json:
        console.print_json(comparison_json(methods))
    elif not quiet:
        console.print_table(*_narrow(rows), _title(methods, rows))
    if out is None:
        return
    from model.atomic import write_atomically

    write_atomically(out / "comparison.md", markdown_table(COLUMNS, rows).encode())
    text = json_module.dumps(comparison_json(methods), indent=1) + "\n"
    write_atomically(out / "comparison.json", text.encode())
    if report:
        from lrm_cli.report.evaluation import write_comparison

        places = [Path(path) if Path(path).is_dir() else Path(path).parent for path in paths]
        page = write_comparison(methods, rows, places, out)
        if not (json or quiet):
            console.result(f"Report: {page}")


def _title(methods: Sequence[Scores], rows: Sequence[tuple[str, ...]]) -> str:
    first, counts = methods[0], {row[-1] for row in rows}
    title = f"Protocol {first.protocol['name']}; differences from {first.method}"
    return title if len(counts) > 1 else f"{title} on {counts.pop()} objects"


def _narrow(
    rows: Sequence[tuple[str, ...]],
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Columns and rows of the comparison's table for a terminal of 80 columns.

    A metric has a line of its own above its methods, and the number of objects a column only
    where it is not the same for all.

    Args:
        rows: as `comparison_rows` gives them.
    """
    columns = ["", ">mean", ">differs", ">95 % of it", ">p", ">better", ">objects"]
    kept = columns if len({row[-1] for row in rows}) > 1 else columns[:-1]
    narrow: list[tuple[str, ...]] = []
    for metric, method, mean, gap, interval, p_value, better, objects in rows:
        if metric:
            narrow.append((metric, *[""] * (len(kept) - 1)))
        interval = interval.replace(" … ", "…")
        line = (f"  {method}", mean, gap, interval, p_value, better, objects)
        narrow.append(line[: len(kept)])
    return kept, narrow
