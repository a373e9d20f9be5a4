"""Which files of this machine the nodes of a cluster need copies of, and how workers find them."""

from __future__ import annotations

import os
from pathlib import Path

from lrm_cli.batch.work import Carried, Part, Place
from model.folders import CONFIG_NAME, WEIGHTS_NAME


def model_files(folder: Path | None, part: Part = "all") -> tuple[Carried, ...]:
    """Those of a model; a training run's folder holds much else. Ends do without the weights."""
    names = (CONFIG_NAME,) if part == "ends" else (CONFIG_NAME, WEIGHTS_NAME)
    return () if folder is None else (Carried(folder, names),)


def matting_files(choice: str, network: str) -> tuple[Carried, ...]:
    """The matting network's, where photos may need it and it is here."""
    from model.matting import local_network

    if choice not in ("auto", "rembg") or (path := local_network(network)) is None:
        return ()
    return (Carried(path.parent, (path.name,)),)


def use_matting_files(network: str, place: Place) -> None:
    """Have the network looked for where it has been carried to, if it has."""
    from model.matting import use_networks_in

    for _, home in place.homes:
        if os.path.isfile(home / f"{network}.onnx"):
            use_networks_in(home)
