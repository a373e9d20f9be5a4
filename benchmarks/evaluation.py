"""A model and two baselines under the protocols `lrm` and `sf3d`, for docs/evaluation.md.

    python -m benchmarks.evaluation MODEL DATA REFERENCES.tsv --out OUT \\
        [--json FILE] [--picture FILE.webp] [--pages DIR] [--objects NAMES.txt] [--jobs N]

Runs `lrm evaluate` six times (what is scored is skipped when it runs again), prints the tables in
Markdown, and draws the best, the middle and the worst object of each protocol. `--pages` takes
the HTML reports together: the model's, and that of all methods compared.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import hardware
from lrm_cli.console import EXIT_FAILED
from lrm_cli.report.evaluation import write_comparison, write_evaluation
from lrm_cli.report.markup import page_bytes, url
from train.evaluation.comparison import COLUMNS, comparison_json, comparison_rows
from train.evaluation.protocol import UNALIGNED
from train.evaluation.scores import Scores, markdown_table, number, read_scores

PROTOCOLS = ("lrm", "sf3d")
BASELINES = ("relief", "mean-shape")


def run_all(
    model: str, data: Path, references: Path, out: Path, more: Sequence[str]
) -> dict[str, list[Path]]:
    """The evaluations' folders by protocol, the model's first."""
    folders: dict[str, list[Path]] = {}
    for protocol in PROTOCOLS:
        methods = [("--model", model), *(("--baseline", name) for name in BASELINES)]
        for flag, value in methods:
            folder = out / protocol / Path(value).name
            folders.setdefault(protocol, []).append(folder)
            command = [sys.executable, "-m", "lrm_cli", "evaluate", flag, value, *more]
            command += ["--data", str(data), "--reference", str(references), "--report"]
            command += ["--protocol", protocol, "--out", str(folder)]
            code = subprocess.run(command).returncode
            if code not in (0, EXIT_FAILED):  # some objects may be excluded
                raise SystemExit(code)
    return folders


def means_table(methods: Sequence[Scores]) -> str:
    """A row per method: means, the number of objects, and what is not available."""
    metrics = [m for m in methods[0].metrics if not m.endswith(UNALIGNED)]
    columns = ["method", *metrics, "objects", "not available"]
    rows = [
        [
            scores.method,
            *(number(m, scores.summaries[m].mean) for m in metrics),
            str(len(scores.objects)),
            ", ".join(scores.unavailable),
        ]
        for scores in methods
    ]
    return markdown_table(columns, rows)


def picture(methods: Sequence[Scores], folders: Sequence[Path]) -> Image.Image:
    """The model's best, middle and worst object, with the baselines' strips below each."""
    values = methods[0].values("psnr")
    shared = [n for n in values if all(n in scores.objects for scores in methods)]
    ranked = sorted(shared, key=lambda name: -values[name])
    chosen = [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    strips = []
    for name in chosen:
        for scores, folder in zip(methods, folders, strict=True):
            files = scores.objects[name]["files"]
            file = folder / next(f for f in files if f.endswith(".webp"))
            strip = Image.open(file).convert("RGB")
            # References once, and then each method's predictions.
            tile = strip.height // 3
            first = 0 if scores is methods[0] else tile
            strips.append(strip.crop((0, first, strip.width, 2 * tile)))
    sheet = Image.new("RGB", (strips[0].width, sum(s.height for s in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def write_pages(folders: dict[str, list[Path]], pages: Path) -> None:
    """The reports of the model and of the comparison, under each protocol, and a page of links."""
    shutil.rmtree(pages, ignore_errors=True)
    items = []
    for protocol, places in folders.items():
        methods = [read_scores(place) for place in places]
        own, both = pages / protocol / places[0].name, pages / protocol / "compared"
        write_evaluation(methods[0], own)
        for entry in methods[0].objects.values():
            strip = next(file for file in entry["files"] if file.endswith(".webp"))
            (own / strip).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(places[0] / strip, own / strip)
        both.mkdir(parents=True)
        write_comparison(methods, comparison_rows(methods), places, both)
        items += [
            f'<li>Protocol {protocol}: <a href="{url(f"{protocol}/{folder}/report/index.html")}">'
            f"{title}</a></li>"
            for folder, title in (
                (own.name, f"{own.name}, object by object"),
                (both.name, "compared with the baselines"),
            )
        ]
    body = f"""<header><h1>{folders[PROTOCOLS[0]][0].name}, evaluated</h1></header>
<ul>{"".join(items)}</ul>
<p>What the numbers mean: docs/evaluation.md. Authors of the objects:
examples/household/ATTRIBUTION.md.</p>"""
    style = f"{PROTOCOLS[0]}/compared/report/"
    (pages / "index.html").write_bytes(page_bytes("Evaluation", style, body, ' class="evaluation"'))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, a model's folder, a run's folder")
    parser.add_argument("data", type=Path)
    parser.add_argument("references", type=Path, help="make_dataset.py --write-references")
    parser.add_argument("--out", type=Path, required=True)
    add_json_flag(parser)
    parser.add_argument("--picture", type=Path, help="write the pictures here (WebP, PNG)")
    parser.add_argument("--pages", type=Path, help="write the HTML reports here; replaced if there")
    parser.add_argument("--objects", type=Path, help="only these, a name a line")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()

    more = ["--jobs", str(arguments.jobs)]
    if arguments.objects:
        more += ["--objects", str(arguments.objects)]
    folders = run_all(arguments.model, arguments.data, arguments.references, arguments.out, more)
    figures, pictures = {}, []
    for protocol, places in folders.items():
        methods = [read_scores(place) for place in places]
        print(f"\nProtocol {protocol}\n\n{means_table(methods)}")
        print(markdown_table(COLUMNS, comparison_rows(methods)))
        figures[protocol] = {
            "summaries": {
                scores.method: {m: vars(s) for m, s in scores.summaries.items()}
                for scores in methods
            },
            "excluded": {scores.method: scores.excluded for scores in methods},
            "unavailable": methods[0].unavailable,
            "against_the_first": comparison_json(methods),
        }
        pictures.append(picture(methods, places))
    facts = {"hardware": hardware(torch.device("cpu")), "torch": torch.__version__}
    write_figures({**figures, **facts}, arguments.json)
    if arguments.pages:
        write_pages(folders, arguments.pages)
    if arguments.picture:
        sheet = Image.new(
            "RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white"
        )
        for index, each in enumerate(pictures):
            sheet.paste(each, (0, sum(p.height for p in pictures[:index])))
        sheet.save(arguments.picture, quality=85)


if __name__ == "__main__":
    main()
