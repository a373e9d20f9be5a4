"""Checkpoints of the catalogue from the Hugging Face hub into lrm's own folder of models.

Everything goes through huggingface_hub, with its cache, its going on after an interruption, and
its settings: HF_ENDPOINT for a mirror, HF_HUB_OFFLINE for what was downloaded before, HF_HOME,
HF_TOKEN.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.atomic import put_in_place
from model.catalogue import CATALOGUE, Published
from model.folders import pulled_folder
from model.published.converting import Checkpoint, convert

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Download:
    """Files in the hub's cache.

    Attributes:
        revision: the commit that they are of.
        sha256: of the weights.
    """

    checkpoint: Checkpoint
    revision: str
    sha256: str


def pull(name: str, revision: str | None = None, image_size: int | None = None) -> Path:
    """Download a checkpoint, check it and translate it; its folder, replaced if it is there.

    Who pulls the same model meanwhile waits for its turn.

    Args:
        revision: a branch, tag or commit of the repository; None: the newest.
        image_size: see `translate`.

    Raises:
        ValueError: not in the catalogue, out of reach, damaged, or not what it should be.
        OSError: the folder cannot be written to.
    """
    from huggingface_hub.utils import WeakFileLock

    published = find(name)
    folder = pulled_folder(name)
    with _quiet_client():
        download = _download(published, revision)
    card = card_of(published, download)
    part, old = (folder.with_name(f"{name}.{state}") for state in ("part", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder.with_name(f".{name}.lock")):
        _tidy_up(folder, part, old)  # after a pull that was killed
        try:
            convert(
                download.checkpoint,
                part,
                name,
                card,
                license_text=f"{published.license} ({published.authors})",
                image_size=image_size,
            )
            if folder.exists():
                put_in_place(folder, old)
            put_in_place(part, folder)
        finally:
            _tidy_up(folder, part, old)
    return folder


def _tidy_up(folder: Path, part: Path, old: Path) -> None:
    """Leave the model's folder alone, the old one where no new one has come in its place."""
    if old.exists() and not folder.exists():
        put_in_place(old, folder)
    for rest in (part, old):
        shutil.rmtree(rest, ignore_errors=True)


def find(name: str) -> Published:
    """An entry of the catalogue.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in CATALOGUE:
        raise ValueError(f"no model to pull is called {name!r}; there are: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def card_of(published: Published, download: Download) -> str:
    """README.md of the translated model."""
    return (
        f"# {published.name}\n\n"
        f"{published.about[0].upper()}{published.about[1:]}.\n\n"
        f"- Weights by {published.authors}: {published.address}, revision `{download.revision}`, "
        f"`{download.checkpoint.weights.name}` with SHA-256 `{download.sha256}`.\n"
        f"- Licence of the weights: {published.license}.\n"
        "- Translated by lrm into its own names; the numbers are the authors'.\n"
    )


@contextlib.contextmanager
def _quiet_client() -> Iterator[None]:
    """The client's log of each of its tries is kept from the terminal: the last one's counts."""
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _download(published: Published, revision: str | None) -> Download:
    weights, config = _fetch(published, revision)
    sha256 = _checked_sha256(weights)
    _checked_sha256(config)
    return Download(Checkpoint(weights, config), weights.parent.name, sha256)


def _fetch(published: Published, revision: str | None) -> tuple[Path, Path]:
    """Weights and config in the hub's cache: the first of the alternatives that there is.

    Once the hub was out of reach, the other alternatives are looked for in its cache only.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    where = f"{published.repository} on the Hugging Face hub"
    out_of_reach: Exception | None = None
    for config_name, weights_name in published.files:
        try:
            # The weights first: it is they whose name differs between alternatives.
            weights, config = (
                Path(
                    hf_hub_download(
                        published.repository,
                        file,
                        revision=revision,
                        local_files_only=out_of_reach is not None,
                    )
                )
                for file in (weights_name, config_name)
            )
        except LocalEntryNotFoundError as error:  # an EntryNotFoundError, too
            out_of_reach = error
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client raises many kinds
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ValueError(f"{published.name} cannot be had from {where}: {reason}") from error
        else:
            return weights, config
    if out_of_reach is not None:
        raise ValueError(
            f"{published.name} is not on this machine, and {where} is out of reach: HF_HUB_OFFLINE "
            "is set, or the network or HF_ENDPOINT does not answer"
        ) from out_of_reach
    names = " and no ".join(weights for _, weights in published.files)
    raise ValueError(f"{where} has no {names}: it has changed, and this lrm cannot read it")


def _checked_sha256(path: Path) -> str:
    """The SHA-256 of a file in the hub's cache, compared with the hash that the hub gave.

    The cache names each file's content by it: SHA-256 of large ones, Git's hash of small ones.

    Raises:
        ValueError: it is another; the file is removed, so that the next try downloads it.
    """
    blob = path.resolve()
    size = blob.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with blob.open("rb") as file:
        while block := file.read(_READ_BYTES):
            sha256.update(block)
            git.update(block)
    expected = blob.name if blob.parent.name == "blobs" else None
    if expected is not None and expected not in (sha256.hexdigest(), git.hexdigest()):
        blob.unlink()
        raise ValueError(
            f"{path.name} is not what the hub says it is: its hash is {sha256.hexdigest()}, not "
            f"{expected}; the file is removed, try again"
        )
    return sha256.hexdigest()
