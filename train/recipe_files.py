"""Recipes as files: YAML with a base, a model and `--set` changes in; a `Recipe` out."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import yaml

from model.catalogue import CATALOGUE
from model.config import PRESETS, LrmConfig, preset
from model.folders import load_config, model_folder
from train.recipe import Recipe, changed_settings, recipe_from_dict

RECIPES_DIR = Path(__file__).parent / "recipes"
_PARTS_OF_A_MODEL = {"encoder", "decoder", "triplane", "nerf", "view"}
_DIFFERENCES_TOLD = 3
_FINETUNED = "-finetuned"  # ends the name of a model that took its architecture over


def recipe_names() -> list[str]:
    """The recipes that ship, `ablations/…` among them."""
    paths = sorted(RECIPES_DIR.rglob("*.yaml"))
    names = [p.relative_to(RECIPES_DIR).with_suffix("").as_posix() for p in paths]
    return sorted(names, key=lambda name: (name.count("/"), name))


def load_recipe(
    name_or_file: str, overrides: list[str] | None = None, run: Path | None = None
) -> Recipe:
    """Read a recipe and apply `key=value` overrides.

    Args:
        name_or_file: a recipe of `train/recipes` or a YAML file. It may name another one as its
            `base` and change single settings of that; a file's path is from its folder, or else
            from the current one. Its `model` mapping may name a `preset`,
            which is one of the presets, or a model whose architecture is meant; without it the
            architecture is that of `run.init_from`.
        overrides: as `--set` takes them: dotted key, `=`, a YAML value.
        run: the run's folder: one that has begun knows its model, should `run.init_from` be gone.

    Raises:
        ValueError: no such recipe or model, not YAML, an unknown key, a value that does not fit,
            a model that `run.init_from` does not fit.
    """
    values = _read(name_or_file)
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes key=value, got {override!r}")
        _set_dotted(values, key, _parse_yaml(text, f"--set {key}"))
    origin = _origin_of(values, run)
    recipe = recipe_from_dict({**values, "model": _whole_model(values, origin)})
    if origin is not None and recipe.run.init_from is not None:
        check_origin(recipe.model, recipe.run.init_from, origin)
    return recipe


def check_origin(model: LrmConfig, name: str, origin: LrmConfig) -> None:
    """Whether a run of a model can start from the weights of another.

    Args:
        name: of the other, as `run.init_from` has it.

    Raises:
        ValueError: its weights do not fit; its licence would be lost.
    """
    changes = changed_settings(model.architecture(), origin.architecture())
    if changes:
        more = "" if len(changes) <= _DIFFERENCES_TOLD else ", …"
        raise ValueError(
            f"run.init_from names {name}, whose architecture is another than the recipe's model "
            f"({', '.join(changes[:_DIFFERENCES_TOLD])}{more}); --recipe finetune, or "
            f"--set model.preset={name}, takes it over"
        )
    if origin.license is not None and model.license is None:
        raise ValueError(
            f"model.license is null, and run.init_from names {name}, whose weights' licence stays "
            f"that of what is made of them; write it there: {origin.license}"
        )


def _origin_of(values: dict[str, Any], run: Path | None) -> LrmConfig | None:
    """The config of what a run starts from, or, where that is gone, of the run that did.

    None where there is none, and where the recipe needs none: that of a run says all of its model.
    """
    settings = values.get("run")
    name = settings.get("init_from") if isinstance(settings, dict) else None
    if not isinstance(name, str) or _is_whole(values.get("model")):
        return None
    try:
        return load_config(model_folder(name))
    except ValueError:
        if run is not None and _started_from(run) == name:
            return load_config(model_folder(run))
        raise


def _started_from(run: Path) -> str | None:
    """`run.init_from` of a run that has a model already."""
    try:
        model_folder(run)
        return yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))["run"]["init_from"]
    except (ValueError, OSError, yaml.YAMLError, TypeError, KeyError):
        return None


def _is_whole(model: Any) -> bool:
    """Whether a mapping, as that of a run's recipe.yaml, is a model without a preset."""
    return isinstance(model, dict) and "preset" not in model and model.keys() >= _PARTS_OF_A_MODEL


def _whole_model(values: dict[str, Any], origin: LrmConfig | None) -> Any:
    """A recipe's model, with what its mapping leaves out from its preset or its origin."""
    model = values.get("model") or {}
    if not isinstance(model, dict) or _is_whole(model):
        return model
    base: LrmConfig | None = None
    if model.get("preset") is None and origin is not None:
        name = origin.name.removesuffix(_FINETUNED) + _FINETUNED
        base = dataclasses.replace(origin, name=name)
    elif "preset" in model:
        base = _architecture_of(model["preset"])
        if origin is not None:
            base = dataclasses.replace(base, license=origin.license)
    changes = {key: value for key, value in model.items() if key != "preset"}
    return changes if base is None else _merge(base.to_dict(), changes)


def _architecture_of(name: object) -> LrmConfig:
    """A preset, or the config of a model, whose licence is that of its weights only."""
    if name is None:
        raise ValueError(
            "this recipe's model is that of run.init_from, which names none; add "
            "--set run.init_from=NAME: triposr, another of `lrm models list`, or a model's folder"
        )
    name = str(name)
    if name in PRESETS:
        return preset(name)
    try:
        return dataclasses.replace(load_config(model_folder(name)), license=None)
    except ValueError as error:
        presets = "" if name in CATALOGUE else f"; presets: {', '.join(PRESETS)}"
        raise ValueError(f"model.preset: {error}{presets}") from None


def _read(name_or_file: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe's plain values, merged into those of its base."""
    path = Path(name_or_file)
    if not path.is_file():
        path = RECIPES_DIR / f"{name_or_file}.yaml"
    if not path.is_file():
        raise ValueError(
            f"there is no recipe {name_or_file!r}: neither a file nor one of "
            f"{', '.join(recipe_names())}"
        )
    values = _parse_yaml(path.read_text("utf-8"), str(path)) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not hold a mapping")
    base = values.pop("base", None)
    if base is None:
        return values
    if path.resolve() in above:
        raise ValueError(f"{path} is its own base")
    beside = path.parent / str(base)
    base = beside if beside.is_file() else base
    return _merge(_read(str(base), (*above, path.resolve())), values)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 4e-4 for a string; as in YAML 1.2, this one takes it for a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _parse_yaml(text: str, place: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{place} is not valid YAML: {error}") from error


def _set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {key}: {parent} is not a group of settings")
    values[last] = value


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
