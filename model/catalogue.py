"""The public checkpoints that lrm knows by name, as data: no torch, nothing is downloaded here."""

from __future__ import annotations

from dataclasses import dataclass

MIT = "MIT: free to use, also commercially"
CC_BY_NC = "CC BY-NC 4.0: not for commercial use; name the authors"


@dataclass(frozen=True)
class Published:
    """A checkpoint on the Hugging Face hub.

    Attributes:
        name: of the model in lrm.
        repository: where it is.
        files: alternatives in the order of preference, each a config and weights.
        parameters: of the translated model; of OpenLRM 1.0 with DINO ViT-B/16, as its code has it.
        size_bytes: to download, about.
        license: of the weights, in plain words.
        commercial: whether it allows commercial use.
        authors: to be named.
        about: what it is good for, in a line.
    """

    name: str
    repository: str
    files: tuple[tuple[str, str], ...]
    parameters: int
    size_bytes: int
    license: str
    commercial: bool
    authors: str
    about: str

    @property
    def address(self) -> str:
        return f"https://huggingface.co/{self.repository}"


_OPENLRM_FILES = (("config.json", "model.safetensors"), ("config.json", "model.pth"))


def _openlrm(name: str, parameters: int, about: str) -> Published:
    return Published(
        name=name,
        repository=f"zxhezexin/{name}",
        files=_OPENLRM_FILES,
        parameters=parameters,
        size_bytes=4 * parameters,
        license=CC_BY_NC,
        commercial=False,
        authors="Zexin He and Tengfei Wang, OpenLRM",
        about=about,
    )


_ALL = (
    Published(
        name="triposr",
        repository="stabilityai/TripoSR",
        files=(("config.yaml", "model.ckpt"),),
        parameters=419_320_940,
        size_bytes=1_677_000_000,
        license=MIT,
        commercial=True,
        authors="Tripo AI and Stability AI",
        about="any single object; may be used in products",
    ),
    _openlrm(
        "openlrm-mix-large-1.1", 451_861_780, "objects and real photos (Objaverse and MVImgNet)"
    ),
    _openlrm("openlrm-mix-base-1.1", 259_581_684, "the same, smaller"),
    _openlrm("openlrm-mix-small-1.1", 110_959_972, "the same, for drafts"),
    _openlrm("openlrm-obj-large-1.1", 451_861_780, "rendered objects (Objaverse)"),
    _openlrm("openlrm-obj-base-1.1", 259_581_684, "the same, smaller"),
    _openlrm("openlrm-obj-small-1.1", 110_959_972, "the same, for drafts"),
    _openlrm("openlrm-large-obj-1.0", 451_993_876, "the first release, kept for comparison"),
    _openlrm("openlrm-base-obj-1.0", 361_575_148, "the first release, kept for comparison"),
    _openlrm("openlrm-small-obj-1.0", 260_005_604, "the first release, kept for comparison"),
)
CATALOGUE: dict[str, Published] = {published.name: published for published in _ALL}
