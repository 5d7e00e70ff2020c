"""Turn pydantic's findings into sentences for somebody who has never heard of pydantic.

One problem, one line: which key, what was found, what is allowed, and the nearest known key for a misspelt one.
"""

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

MAX_SHOWN = 60  # characters of a found value that are repeated in a message


def explain(error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any]) -> list[str]:
    """One sentence per faulty key of `raw`, which failed to validate as `model`."""
    sentences: dict[str, None] = {}  # an ordered set: a union reports one fault once per member
    for finding in error.errors(include_url=False):
        sentences[_sentence(finding, model, raw)] = None
    return list(sentences)


def nearest(key: str, known: list[str]) -> str | None:
    """The known dotted key that `key` was most likely meant to be, or None."""
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    if same_leaf:
        return difflib.get_close_matches(key, same_leaf, n=1, cutoff=0)[0]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if close:
        return close[0]
    leaves = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
    close = difflib.get_close_matches(leaf, list(leaves), n=1, cutoff=0.7)
    return leaves[close[0]] if close else None


def iterate_fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of a model as (dotted key, field), groups of settings opened up."""
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        if section:
            yield from iterate_fields(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation stands for, or None if it is a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def allowed(annotation: Any, limits: list[Any] | None = None) -> str:
    """What a key accepts, in words: 'a whole number from 0 to 51', "one of 'crop', 'full'"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed(arguments[0], [*arguments[1:], *(limits or [])])
    if origin in (Union, types.UnionType):
        choices = [allowed(member, limits) for member in arguments if member is not type(None)]
        return " or ".join(dict.fromkeys(choices))
    if origin is Literal:
        return " or ".join(repr(value) if isinstance(value, str) else str(value) for value in arguments)
    if origin in (list, tuple):
        return f"a list, each item {allowed(arguments[0])}"
    section = section_of(annotation)
    if section:
        return f"a group of settings ({', '.join(section.model_fields)})"
    if origin is dict or annotation is dict:
        return "a group of key: value pairs"
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(annotation, "a value")
    return kind + _range(limits or [])


def shown(value: Any) -> str:
    """A found value as it is repeated in a message: quoted text, shortened when long."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _sentence(finding: Any, model: type[BaseModel], raw: Any) -> str:
    location, kind = finding["loc"], finding["type"]
    if kind == "extra_forbidden":
        key = ".".join(str(part) for part in location)
        guess = nearest(key, [name for name, _ in iterate_fields(model)])
        return f"unknown key '{key}'" + (f"; did you mean '{guess}'?" if guess else "")
    key, field, value = _faulty_field(location, model, raw)
    if kind == "missing":
        return f"'{key}' is missing"
    if kind == "value_error" or field is None:
        said = str(finding.get("ctx", {}).get("error", finding["msg"]))
        return f"'{key}' {said}" if key else said
    return f"'{key}' is {shown(value)}, but must be {allowed(field.annotation, field.metadata)}"


def _faulty_field(location: tuple, model: type[BaseModel], raw: Any) -> tuple[str, FieldInfo | None, Any]:
    """Dotted key, definition and found value of the setting that a location points into.

    A location goes on beyond the setting: which member of a union, which item of a list.
    """
    names: list[str] = []
    field, section, value = None, model, raw
    for part in location:
        if section is None or part not in section.model_fields:
            break
        names.append(str(part))
        field = section.model_fields[part]
        section = section_of(field.annotation)
        value = value.get(part) if isinstance(value, Mapping) else None
    return ".".join(names), field, value


def _range(limits: list[Any]) -> str:
    bounds = {}
    for limit in [part for item in limits for part in (item.metadata if isinstance(item, FieldInfo) else [item])]:
        for name in ("ge", "gt", "le", "lt", "min_length"):
            if getattr(limit, name, None) is not None:
                bounds[name] = getattr(limit, name)
    if "ge" in bounds and "le" in bounds:
        return f" from {bounds['ge']} to {bounds['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    parts = [f"{word} {bounds[name]}" for name, word in words.items() if name in bounds]
    if bounds.get("min_length"):
        parts.append("that is not empty")
    return (" " + " and ".join(parts)) if parts else ""
