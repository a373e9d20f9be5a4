"""The elements of PLY files (Turk 1994), text and binary: columns of numbers, and of lists of any
lengths. What they mean is `ply_reading`'s."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_END = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)
_ORDERS = {"ascii": "<", "binary_little_endian": "<", "binary_big_endian": ">"}
_KINDS = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"int64": "i8", "uint64": "u8", "float": "f4", "float32": "f4", "double": "f8"},
    **{"float16": "f2", "float64": "f8"},
}


class _Property(NamedTuple):
    """One of an element: how it is stored, its type by the header, and that of a list's length."""

    name: str
    stored: np.dtype[Any]
    declared: np.dtype[Any]
    length_kind: np.dtype[Any] | None


class Column(NamedTuple):
    """A property of all rows: the values one after another, and how many are each row's."""

    values: NDArray[Any]
    lengths: NDArray[np.int64]
    declared: np.dtype[Any]


Columns = dict[str, Column]


def read_elements(content: bytes) -> tuple[dict[str, Columns], bytes]:
    """The columns of each element, and the header.

    Text is read as if it were binary of doubles.

    Raises:
        ValueError: it is damaged; says how.
    """
    end = _END.search(content)
    if end is None:
        raise ValueError("its header has no end")
    header = content[: end.start()]
    form, elements = _read_header(header.decode("utf-8", "replace"))
    data, at = content, end.end()
    if form == "ascii":
        data, at = np.fromstring(content[at:], "<f8", sep=" ").tobytes(), 0
    read = {}
    for name, count, properties in elements:
        read[name], at = _read_rows(properties, count, data, at)
    if at != len(data):
        raise ValueError("it is longer than its header says")
    return read, header


def _read_header(header: str) -> tuple[str, list[tuple[str, int, list[_Property]]]]:
    """The form, and name, number and properties of each element."""
    first, *lines = header.split("\n")
    if first.strip().lower() != "ply":
        raise ValueError("its first line is not ply")
    form = ""
    elements: list[tuple[str, int, list[_Property]]] = []
    for line in lines:
        match line.split():
            case ["format", form, _] if form in _ORDERS and not elements:
                continue
            case ["element", name, count] if form and count.isascii() and count.isdigit():
                elements.append((name, int(count), []))
            case ["property", kind, name] if elements and kind in _KINDS:
                elements[-1][2].append(_property(form, name, kind))
            case ["property", "list", count, kind, name] if elements and {kind, count} <= set(
                _KINDS
            ):
                elements[-1][2].append(_property(form, name, kind, count))
            case ["format" | "element" | "property", *_]:
                raise ValueError(f"its header cannot have the line {line.strip()[:60]!r}")
    return form, elements


def _property(form: str, name: str, kind: str, count: str | None = None) -> _Property:
    order, text = _ORDERS[form], form == "ascii"
    declared, of_list = (None if k is None else np.dtype(order + _KINDS[k]) for k in (kind, count))
    assert declared is not None
    double = np.dtype("<f8")
    return _Property(
        name,
        double if text else declared,
        declared,
        double if text and of_list is not None else of_list,
    )


def _read_rows(
    properties: list[_Property], count: int, data: bytes, at: int
) -> tuple[Columns, int]:
    """An element's columns, and where its last row ends.

    Raises:
        ValueError: there are fewer bytes than these rows need.
    """
    least = sum((each.length_kind or each.stored).itemsize for each in properties)
    if count * least > len(data) - at:
        raise ValueError("it ends before all that its header tells of")
    if not count or not properties:
        return {}, at
    first, _ = _walk(properties, 1, data, at)
    lengths = [int(column.lengths[0]) for column in first]
    fields: list[Any] = []
    for i, (each, length) in enumerate(zip(properties, lengths, strict=True)):
        fields += [(f"count {i}", each.length_kind)] if each.length_kind is not None else []
        fields += [(f"values {i}", each.stored, (length,))]
    row = np.dtype(fields)
    columns = None
    if count * row.itemsize <= len(data) - at:
        rows = np.frombuffer(data, row, count, at)
        if all(
            (rows[f"count {i}"] == length).all()
            for i, length in enumerate(lengths)
            if properties[i].length_kind is not None
        ):
            columns = [
                Column(
                    rows[f"values {i}"].reshape(-1), np.broadcast_to(length, count), each.declared
                )
                for i, (each, length) in enumerate(zip(properties, lengths, strict=True))
            ]
            at += rows.nbytes
    if columns is None:  # lists of several lengths
        columns, at = _walk(properties, count, data, at)
    return {each.name: column for each, column in zip(properties, columns, strict=True)}, at


def _walk(
    properties: list[_Property], count: int, data: bytes, at: int
) -> tuple[list[Column], int]:
    """Columns of rows each of which tells by itself where it ends; and where the last one does."""
    pieces: list[list[bytes]] = [[] for _ in properties]
    lengths: list[list[int]] = [[] for _ in properties]
    for _ in range(count):
        for i, each in enumerate(properties):
            length = 1
            if each.length_kind is not None:
                number = np.frombuffer(data[at : at + each.length_kind.itemsize], each.length_kind)
                at += each.length_kind.itemsize
                length = int(number[0]) if len(number) and number[0] >= 0 else -1
            end = at + length * each.stored.itemsize
            if length < 0 or end > len(data):
                raise ValueError("a list in it is longer than the file, or has no length")
            pieces[i].append(data[at:end])
            lengths[i].append(length)
            at = end
    columns = [
        Column(np.frombuffer(b"".join(piece), each.stored), np.array(length), each.declared)
        for each, piece, length in zip(properties, pieces, lengths, strict=True)
    ]
    return columns, at
