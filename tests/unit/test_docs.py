"""README.md and docs/: the commands in their blocks are such as `lrm` takes, and YAML is YAML."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from lrm_cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Up to what ends a command in a shell, or the text around it.
COMMAND = re.compile(r"""(?:^|[\s'"/])lrm ((?:\$\{\{.*?\}\}|'[^'\n]*'|"[^"\n]*"|[^'"\n;&|#])+)""")


def blocks(page: Path, language: str | None = None) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if language in (None, name)]


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page)).replace("\\\n", " ")
    return [match.strip() for match in COMMAND.findall(text)]


def unknown_of(line: str) -> list[str]:
    """What of a command line `lrm` does not know."""
    words = shlex.split(line)
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands") and not (words and words[0].startswith("--")):
        return words[:1]
    known = {"--help"}
    for option in command.params:
        known |= {*option.opts, *option.secondary_opts}
    return [w for w in words if re.match(r"--?[a-z]", w) and w.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_shown_is_one(page: Path) -> None:
    assert {line: unknown for line in commands(page) if (unknown := unknown_of(line))} == {}


def test_the_parser_sees_commands_wherever_they_stand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "lrm nothing --in-text\n```sh\nlrm train data --gpus 8 \\\n  --gone   # why\nlrm nothing\n"
        "x && .venv/bin/lrm models pull triposr; ls --all\n```\n"
        "```yaml\nrun: exec lrm reconstruct a --shard ${{ m.s || 1 }}/4 --lost=1\n```\n"
        "```groovy\nsh 'exec lrm render a --out b'\n```\n"
    )
    found = commands(page)
    assert found[2:] == [
        "models pull triposr",
        "reconstruct a --shard ${{ m.s || 1 }}/4 --lost=1",
        "render a --out b",
    ]
    unknown = [unknown_of(line) for line in found]
    assert unknown == [["--gone"], ["nothing"], [], ["--lost=1"], []]


def test_pages_have_commands() -> None:
    assert len(commands(ROOT / "README.md")) > 20
    assert len(commands(ROOT / "docs/ci.md")) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_yaml_can_be_read(page: Path) -> None:
    for text in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(text), dict)


def test_jobs_of_ci_are_complete() -> None:
    github, gitlab = map(yaml.safe_load, blocks(ROOT / "docs/ci.md", "yaml")[:2])
    assert set(github["jobs"]) == {"reconstruct", "report"}
    for job in github["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert github["jobs"]["report"]["needs"] == "reconstruct"
    assert {"script", "cache", "artifacts", "parallel"} <= set(gitlab["meshes"])
    assert gitlab["report"]["stage"] in gitlab["stages"]
    for text in ("LRM_MODELS", "U2NET_HOME", "PIP_CACHE_DIR"):
        assert text in github["env"]
        assert text in gitlab["variables"]
