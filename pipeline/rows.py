"""Rows of a jsonl, csv or parquet table as plain dicts, each with the words that name its place.

What is faulty about a row is collected, so that one look at the messages is enough to mend the file.
"""

import csv
import io
import json
import math
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import SetupError
from pipeline.problems import explain

Model = TypeVar("Model", bound=BaseModel)

PANDAS_INDEX = re.compile(r"^__index_level_\d+__$")
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Row:
    """One row as written.

    Args:
        place: "line 7" or "row 7".
        values: key to value; empty cells are left out, dotted keys opened up into groups.
        problems: what makes it unreadable; then `values` is empty.
    """

    place: str
    values: dict[str, Any]
    problems: tuple[str, ...] = ()


def parse_rows(name: str, content: bytes) -> list[Row]:
    """The rows of a table file.

    Args:
        name: file name; its extension says what the content is.
    Raises:
        SetupError: unknown extension, or content that can't be read as a table at all.
    """
    extension = extension_of(name)
    reader = READERS.get(extension)
    if not reader:
        known = ", ".join(f".{key}" for key in READERS)
        raise SetupError([f"{name}: unknown kind of manifest '.{extension}'; it must be one of {known}"])
    try:
        return list(reader(content))
    except ValueError as error:
        raise SetupError([f"{name} {error}"]) from error


def extension_of(place: str) -> str:
    """The extension of a path or URI, lower case, without its dot; "" without one."""
    name = posixpath.basename(place)
    return name.rsplit(".", 1)[-1].lower() if "." in name else ""


def read_row(model: type[Model], name: str, row: Row, problems: list[str]) -> Model | None:
    """A row as what it stands for, or None and lines in `problems`.

    Args:
        model: of a row.
        name: of the table, for messages.
    """
    problems += [f"{name} {row.place}: {problem}" for problem in row.problems]
    if row.problems:
        return None
    try:
        return model.model_validate(row.values)
    except ValidationError as error:
        problems += [f"{name} {row.place}: {sentence}" for sentence in explain(error, model, row.values)]
        return None


def number_as_text(value: object) -> object:
    """A name that is written as a number; for pydantic, before it validates."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _read_jsonl(content: bytes) -> Iterator[Row]:
    text = _text(content)
    if text.lstrip().startswith("["):
        raise ValueError("is one JSON array; a jsonl file has one object per line and no brackets around them")
    # not splitlines(), which also cuts at characters that JSON strings may hold
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            values = json.loads(line, object_pairs_hook=_without_repeats)
        except json.JSONDecodeError as error:
            yield Row(place, {}, (f"broken JSON: {error.msg.lower()} at column {error.colno}",))
        except (ValueError, RecursionError) as error:
            yield Row(place, {}, (str(error),))
        else:
            if isinstance(values, dict):
                yield Row(place, _grouped(values))
            else:
                yield Row(place, {}, ("is not a JSON object: write {...}",))


def _read_csv(content: bytes) -> Iterator[Row]:
    text = _text(content)
    header = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=header.count)  # a comma unless others are more frequent
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    names: list[str] | None = None
    last_line = 0
    try:
        for cells in reader:
            place = f"line {last_line + 1}"
            last_line = reader.line_num
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if names is None:
                names = _checked_header(cells)
            elif any(cells[len(names) :]):
                yield Row(place, {}, (f"has {len(cells)} cells, the header has {len(names)}: quote cells with commas",))
            else:
                yield _csv_row(place, dict(zip(names, cells)))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is not csv: {error}") from error


def _csv_row(place: str, cells: dict[str, str]) -> Row:
    values: dict[str, Any] = {}
    for name, cell in cells.items():
        if not name or not cell:
            continue
        values[name] = _guessed(cell) if name.startswith("controls") else cell
    return Row(place, _grouped(values))


def _read_parquet(content: bytes) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"is not a parquet file: {str(error).splitlines()[0]}") from error
    table = table.select([name for name in table.column_names if not PANDAS_INDEX.match(name)])
    for number, values in enumerate(table.to_pylist(), start=1):
        values = _without_blanks(values)
        if isinstance(values.get("controls"), str):
            values["controls"] = _guessed(values["controls"])
        yield Row(f"row {number}", _grouped(values))


READERS: dict[str, Callable[[bytes], Iterator[Row]]] = {
    "jsonl": _read_jsonl,
    "ndjson": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8 text: save the file as UTF-8") from error


def _checked_header(cells: list[str]) -> list[str]:
    repeated = sorted({cell for cell in cells if cell and cells.count(cell) > 1})
    if repeated:
        raise ValueError(f"has two columns called {', '.join(repr(name) for name in repeated)}")
    return cells


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; JSON itself lets the last of two equal keys win, silently."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key '{next(key for key in keys if keys.count(key) > 1)}' appears twice")
    return values


def _guessed(cell: str) -> Any:
    """A control's value from text: a number, true or false, a JSON list or object, else the text itself."""
    try:
        return _whole(json.loads(cell))
    except (ValueError, RecursionError):
        return {"true": True, "false": False}.get(cell.lower(), cell)


def _without_blanks(value: Any) -> Any:
    """A parquet value without what pandas and Arrow put where there is nothing."""
    if isinstance(value, dict):
        cleaned = {key: _without_blanks(item) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item is not None and item != {}}
    if isinstance(value, list):
        return [_without_blanks(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else _whole(value)


def _whole(value: Any) -> Any:
    """512.0 as 512: a column of whole numbers with gaps comes out of spreadsheets and pandas as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _grouped(values: dict[str, Any]) -> dict[str, Any]:
    """{"controls.pose.yaw": 3} as {"controls": {"pose": {"yaw": 3}}}."""
    grouped: dict[str, Any] = {}
    for key in sorted(values, key=lambda key: key.count(".")):
        group, value = grouped, values[key]
        *path, leaf = key.split(".")
        for name in path:
            inner = group.get(name)
            group[name] = group = dict(inner) if isinstance(inner, dict) else {}
        group[leaf] = value
    return grouped
