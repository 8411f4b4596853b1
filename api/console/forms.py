"""Forms made from JSON Schemas: which control stands for which property, and what it holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api.console.words import pretty

_NAMES: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
_LONG_CHARS: Final = 1000


@dataclass(frozen=True, slots=True)
class Field:
    """One control.

    Attributes:
        path: where its value goes in the request's body, as `input.topic`.
        kind: text, long, integer, number, boolean, date, choice, lines (of text), numbers (in lines), json, or
            either (text, or JSON when it looks like it).
        value: what it holds at first, as text.
    """

    path: str
    name: str
    kind: str
    is_required: bool
    hint: str
    value: str
    choices: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)


def fields_of(
    schema: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "", only: Iterable[str] | None = None
) -> list[Field]:
    """Controls for the schema's properties (or some), what is required first."""
    names = list(schema["properties"] if only is None else only)
    required = set(schema.get("required", ()))
    if only is None:
        names.sort(key=lambda name: name not in required)
    return [_field(name, schema["properties"][name], name in required, values.get(name), prefix) for name in names]


def _field(name: str, shape: Mapping[str, Any], is_required: bool, value: Any, prefix: str) -> Field:
    kind = kind_of(shape)
    limits = {"min": shape.get("minimum"), "max": shape.get("maximum"), "maxlength": shape.get("maxLength")}
    return Field(
        path=prefix + name,
        name=name,
        kind=kind,
        is_required=is_required,
        hint=shape.get("description", ""),
        value=_text(kind, shape.get("default") if value is None else value),
        choices=[str(choice) for choice in shape.get("enum", ()) if choice is not None],
        limits={key: limit for key, limit in limits.items() if limit is not None and limit < 2**53},
    )


def kind_of(shape: Mapping[str, Any]) -> str:
    """The control for a property."""
    if "enum" in shape:
        return "choice"
    if "oneOf" in shape:
        return "either"
    types = shape.get("type", "object")
    kind = next((one for one in types if one != "null"), "object") if isinstance(types, list) else types
    if kind == "string":
        if shape.get("format") == "date":
            return "date"
        return "long" if shape.get("maxLength", _LONG_CHARS + 1) > _LONG_CHARS else "text"
    if kind == "array":
        return {"string": "lines", "integer": "numbers"}.get(str(shape.get("items", {}).get("type")), "json")
    return _NAMES.get(str(kind), "json")


def _text(kind: str, value: Any) -> str:
    if value is None or value in ({}, []):
        return ""
    if kind in ("lines", "numbers") and isinstance(value, list):
        return "\n".join(str(item) for item in value)
    if kind == "boolean":
        return "true" if value else "false"
    return value if isinstance(value, str) else pretty(value)
