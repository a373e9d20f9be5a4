"""Settings as dataclasses: their values checked, and built from what JSON and YAML files hold."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints


def require(ok: bool, place: str, value: Any, wanted: str) -> None:
    """Refuse a value.

    Args:
        place: the field, with the groups that it is in: `decoder.width`.
        wanted: what may stand there, after "it must be".

    Raises:
        ValueError: it is not ok.
    """
    if not ok:
        raise ValueError(f"{place} is {value!r}; it must be {wanted}")


def build_dataclass(cls: type, values: Any, where: str) -> Any:
    """A nested dataclass from plain data; refuses unknown keys and wrong types.

    Raises:
        ValueError: names the field, what stood there and what may stand there.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be a mapping, got {values!r}")
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    unknown = [str(key) for key in values if key not in names]
    if unknown:
        raise ValueError(f"{where} has no {', '.join(unknown)}; it has: {', '.join(names)}")
    arguments = {}
    for key, value in values.items():
        hint, place = hints[key], f"{where}.{key}"
        if dataclasses.is_dataclass(hint):
            arguments[key] = build_dataclass(hint, value, place)  # type: ignore[arg-type]
        else:
            arguments[key] = _coerce(value, hint, place)
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory]
    if missing := [name for name in required if name not in arguments]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    return cls(**arguments)


def _coerce(value: Any, hint: Any, place: str) -> Any:
    if get_origin(hint) is Literal:
        require(
            value in get_args(hint), place, value, f"one of {', '.join(map(str, get_args(hint)))}"
        )
        return value
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if items[-1] is Ellipsis:
            require(isinstance(value, (list, tuple)), place, value, "a list")
            items = items[:1] * len(value)
        ok = isinstance(value, (list, tuple)) and len(value) == len(items)
        require(ok, place, value, f"a list of {len(items)}")
        return tuple(_coerce(v, h, place) for v, h in zip(value, items, strict=True))
    options = get_args(hint) or (hint,)
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    ok = any(type(value) is option for option in options)
    names = ["null" if option is type(None) else option.__name__ for option in options]
    require(ok, place, value, " or ".join(names))
    return value
