"""The HTML report of an evaluation, and of several compared, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from lrm_cli.batch.own_files import MANIFEST, REPORT_FOLDER
from lrm_cli.evaluate_settings import STRIP_SUFFIX
from lrm_cli.report.histogram import histogram
from lrm_cli.report.markup import page_bytes, url
from model.atomic import write_atomically

if TYPE_CHECKING:
    from train.evaluation.scores import Scores

SHOWN = 6  # objects at each end
_LEGEND = (
    "<p>In each picture: references above, with the input left of them where there is one; below "
    "them the predictions; then where they differ, the darker the more. The last column, if there "
    "are surfaces: points of the reference, of the prediction in the colours of their distances "
    "to the reference, and of the reference in those of theirs to the prediction.</p>\n"
)
_STRIPS = "strips"  # of the report of a comparison, which keeps copies


def write_evaluation(scores: Scores, out: Path) -> Path:
    """Write `report/index.html` beside `scores.json`; returns it.

    Raises:
        OSError: the folder cannot be written to.
    """
    from train.evaluation.scores import heading, number, summary_table

    protocol = scores.protocol
    body = _header(scores.method, scores)
    body += _table(*summary_table(scores))
    body += "".join(f"<p>{escape(note)}.</p>\n" for note in scores.notes())
    body += _histograms({heading(m): list(scores.values(m).values()) for m in scores.metrics})
    if (metric := _first(scores)) is not None:
        ranked = _best_first(scores, metric)
        ends = [("Best", ranked[:SHOWN]), ("Worst", ranked[SHOWN:][-SHOWN:][::-1])]
        body += _LEGEND
        for title, names in ends:
            if names:
                body += f"<h2>{title} by {escape(heading(metric))}</h2>"
                body += "".join(_strip(scores, name, _place(scores, name)) for name in names)
    columns = ["object", *(heading(m) for m in scores.metrics)]
    rows = [
        [
            f'<a href="{_place(scores, name)}">{escape(name)}</a>',
            *(
                number(m, entry["scores"][m]) if m in entry["scores"] else ""
                for m in scores.metrics
            ),
        ]
        for name, entry in scores.objects.items()
    ]
    body += f"<h2>All {len(rows)} objects</h2>" + _table(columns, rows, escaped=True)
    body += _excluded(scores.excluded)
    return _write(out, f"{scores.method}, protocol {protocol['name']}", body)


def write_comparison(
    methods: Sequence[Scores], rows: Sequence[Sequence[str]], places: Sequence[Path], out: Path
) -> Path:
    """Write `report/index.html` of several methods; returns it.

    Args:
        rows: of the table, as `comparison_rows` gives them.
        places: the methods' folders, where their pictures are.

    Raises:
        OSError: the folder cannot be written to.
    """
    from train.evaluation.comparison import COLUMNS, compare
    from train.evaluation.scores import heading

    first = methods[0]
    body = _header(" · ".join(scores.method for scores in methods), first)
    body += _table(COLUMNS, rows)
    metrics = list(compare(methods))
    for other in methods[1:]:
        body += f"<h2>{escape(other.method)} minus {escape(first.method)}</h2>"
        gaps = {heading(m): list(_gaps(other, first, m).values()) for m in metrics}
        body += _histograms(gaps, zero=True)
    gaps_of_last = _gaps(methods[-1], first, metrics[0])
    ranked = sorted(gaps_of_last, key=lambda name: gaps_of_last[name])
    ends = dict.fromkeys([*ranked[: SHOWN // 2], *ranked[SHOWN // 2 :][-(SHOWN // 2) :]])
    body += f"<h2>Where they differ most in {escape(heading(metrics[0]))}</h2>" + _LEGEND
    for number, name in enumerate(ends):
        for scores, place in zip(methods, places, strict=True):
            if name not in scores.objects:
                continue
            copy = f"{_STRIPS}/{number}-{methods.index(scores)}{STRIP_SUFFIX}"
            source = place / _strip_file(scores, name)
            if source.is_file():
                (out / REPORT_FOLDER / _STRIPS).mkdir(parents=True, exist_ok=True)
                write_atomically(out / REPORT_FOLDER / copy, source.read_bytes())
            body += _strip(scores, name, copy, scores.method)
    body += _objects_of(methods, _first(first) or metrics[0])
    return _write(out, "Evaluations compared", body)


def _objects_of(methods: Sequence[Scores], metric: str) -> str:
    """A metric of all objects by all methods, the first method's best ones first."""
    from train.evaluation.scores import heading, number

    values = [scores.values(metric) for scores in methods]
    rows = [
        [name, *(number(metric, each[name]) if name in each else "" for each in values)]
        for name in _best_first(methods[0], metric)
    ]
    columns = ["object", *(scores.method for scores in methods)]
    return f"<h2>{escape(heading(metric))} of all objects</h2>" + _table(columns, rows)


def _write(out: Path, title: str, body: str) -> Path:
    folder = out / REPORT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    assets = Path(__file__).parent / "assets"
    write_atomically(folder / "style.css", (assets / "style.css").read_bytes())
    write_atomically(folder / MANIFEST, b"{}\n")  # says that pictures in here are a report's
    index = folder / "index.html"
    write_atomically(index, page_bytes(title, "", body, ' class="evaluation"'))
    return index


def _header(title: str, scores: Scores) -> str:
    protocol = scores.protocol
    choices = "".join(f"<li>{escape(choice)}</li>" for choice in protocol["choices"])
    return f"""<header><h1>{escape(title)}</h1>
<p>Protocol <b>{escape(protocol["name"])}</b>: {escape(protocol["source"])}.
{len(scores.objects):,} objects scored, {len(scores.excluded):,} excluded.</p>
<details><summary>What the source leaves open, and what was chosen</summary>
<ul class="choices">{choices}</ul></details></header>
"""


def _first(scores: Scores) -> str | None:
    """The metric by which objects are ranked."""
    return next((m for m in ("psnr", "chamfer", *scores.metrics) if m in scores.metrics), None)


def _best_first(scores: Scores, metric: str) -> list[str]:
    from train.evaluation.statistics import is_lower_better

    values = scores.values(metric)
    return sorted(values, key=lambda name: values[name], reverse=not is_lower_better(metric))


def _gaps(method: Scores, other: Scores, metric: str) -> dict[str, float]:
    mine, theirs = method.values(metric), other.values(metric)
    return {name: mine[name] - theirs[name] for name in mine if name in theirs}


def _strip_file(scores: Scores, name: str) -> str:
    """Below the evaluation's folder."""
    files: list[str] = scores.objects[name]["files"]
    return next(file for file in files if file.endswith(STRIP_SUFFIX))


def _place(scores: Scores, name: str) -> str:
    """From the report's folder."""
    return url(f"../{_strip_file(scores, name)}")


def _strip(scores: Scores, name: str, place: str, method: str = "") -> str:
    from train.evaluation.scores import heading, number

    values = scores.objects[name]["scores"]
    figures = " · ".join(f"{heading(m)} {number(m, v)}" for m, v in values.items())
    who = f"{escape(method)}, " if method else ""
    return f"""<figure class="strip">
<img src="{place}" alt="{escape(name)}: references, predictions, differences" loading="lazy">
<figcaption><b>{who}{escape(name)}</b><br>{escape(figures)}</figcaption></figure>
"""


def _histograms(values: Mapping[str, Sequence[float]], zero: bool = False) -> str:
    drawn = "".join(histogram(each, title, zero) for title, each in values.items())
    return f'<div class="histograms">{drawn}</div>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], escaped: bool = False) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(
        "<tr>" + "".join(f"<td>{c if escaped else escape(c)}</td>" for c in row) + "</tr>\n"
        for row in rows
    )
    return f"""<table class="numbers"><thead><tr>{head}</tr></thead><tbody>
{lines}</tbody></table>
"""


def _excluded(excluded: Mapping[str, str]) -> str:
    if not excluded:
        return ""
    rows = "".join(
        f"<li><b>{escape(name)}</b> {escape(why)}</li>\n" for name, why in excluded.items()
    )
    return f"""<details id="failures" open><summary>{len(excluded):,} excluded</summary>
<ul>{rows}</ul></details>"""
