"""How the fields of our schemas are described as JSON Schema, beyond what apispec knows by itself."""

from typing import Any

from marshmallow import fields, validate

from jobs.fields import MAX_INTEGER, NOT_BLANK, STORABLE, JsonObject, StrictInteger, Text, not_blank


def describe(converter: Any, free_form: dict[str, Any] | None = None) -> None:
    """Have apispec's converter describe them.

    Args:
        free_form: the schema of JSON objects that may hold anything.
    """
    for function in (_pattern, _bounds, _nullable_choices):
        converter.add_attribute_function(function)
    if free_form:
        converter.add_attribute_function(_objects(free_form))


def _pattern(_converter: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    if isinstance(field, Text):
        return {"pattern": NOT_BLANK if not_blank in field.validators else STORABLE}
    return {}


def _bounds(_converter: Any, field: fields.Field[Any], ret: dict[str, Any], **_: Any) -> dict[str, Any]:
    bounds = {"minimum": -MAX_INTEGER, "maximum": MAX_INTEGER} if isinstance(field, StrictInteger) else {}
    found = {**bounds, **ret}
    if any(isinstance(rule, validate.Range) and not rule.min_inclusive for rule in field.validators):
        ret.pop("minimum")
        found["exclusiveMinimum"] = found.pop("minimum")
    return found


def _nullable_choices(_converter: Any, field: fields.Field[Any], ret: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {"enum": [*ret["enum"], None]} if field.allow_none and "enum" in ret else {}


def _objects(shape: dict[str, Any]) -> Any:
    def free_form(_converter: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
        return shape if isinstance(field, JsonObject) else {}

    return free_form
