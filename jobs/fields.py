"""What arrives from outside: marshmallow fields that are strict about types, and only what can be stored."""

import re
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, missing
from marshmallow.error_store import ErrorStore

_MAX_DEPTH: Final = 32
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEGER: Final = re.compile(r"(-?[0-9]{1,19})(?:\.0+)?")

MAX_INTEGER: Final = 2**63 - 1
STORABLE: Final = r"^[^\u0000]*$"
"""As a pattern of JSON Schema: texts that can be stored."""
NOT_BLANK: Final = r"^\s*[^\s\u0000][^\u0000]*$"
"""Such of them that are not only white space."""


class SparseSchema(Schema):
    """A schema of many fields, of which few are given: the others are not asked, unless they say something then.

    Its fields have their own names in what is loaded: neither `data_key` nor `attribute`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._heard = frozenset(
            name for name, field in self.load_fields.items() if field.required or field.load_default is not missing
        )

    def _deserialize(self, data: Any, *, error_store: ErrorStore, **options: Any) -> Any:
        """As marshmallow's, which asks every field, in many steps."""
        if type(data) is not dict or options["many"] or options["partial"] is not None or options["unknown"] != RAISE:
            return super()._deserialize(data, error_store=error_store, **options)
        loaded: dict[str, Any] = {}
        for name, field in self.load_fields.items():
            if name not in data and name not in self._heard:
                continue
            try:
                loaded[name] = field.deserialize(data.get(name, missing), name, data)
            except ValidationError as error:
                error_store.store_error(error.messages, name)  # type: ignore[no-untyped-call]
                if error.valid_data:
                    loaded[name] = error.valid_data
        for name in data.keys() - self.load_fields.keys():
            error_store.store_error([self.error_messages["unknown"]], name)  # type: ignore[no-untyped-call]
        return loaded


def storable(text: str) -> str:
    """A text that PostgreSQL and JSON can hold: without NUL and halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def storable_text(value: str) -> None:
    """Refuse what PostgreSQL cannot store.

    Raises:
        ValidationError: NUL characters or lone surrogates.
    """
    if "\x00" in value:
        raise ValidationError("May not contain NUL characters.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValidationError("Not valid Unicode text.") from error


def storable_json(value: Any) -> None:
    """Refuse documents that cannot be stored or that nest deeper than 32 levels.

    Raises:
        ValidationError: says which.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValidationError(f"Nested deeper than {_MAX_DEPTH} levels.")
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                storable_text(item)
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below


class Text(fields.String):
    """A string that PostgreSQL can store."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, *args, **kwargs)
        storable_text(text)
        return text


class StrictInteger(fields.Integer):
    """A JSON integer: no strings, no booleans, no fractions (5.0 is 5), and within 64 bits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, **options)

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
            raise self.make_error("invalid", input=value)
        return value


class QueryInteger(StrictInteger):
    """An integer within a URL: digits, as JSON would have them; not all that Python reads as one (`1_000`, `１`)."""

    def _validated(self, value: Any) -> int:
        written = _INTEGER.fullmatch(value) if isinstance(value, str) else None
        return super()._validated(int(written[1]) if written else value)


class Day(fields.Date):
    """A date as YYYY-MM-DD: not all that Python reads as one (`20251127`, `2025-W01-1`)."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(value, str) and _DAY.fullmatch(value)):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, *args, **kwargs)


class StrictBoolean(fields.Boolean):
    """true or false: not 0 and 1, which Python takes for these."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class JsonObject(fields.Dict):
    """Any JSON object that can be stored."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        loaded = super()._deserialize(value, *args, **kwargs)  # type: ignore[no-untyped-call]
        storable_json(loaded)
        return loaded


def not_blank(value: str) -> None:
    """Refuse a text of nothing but white space; for `validate`.

    Raises:
        ValidationError: it is.
    """
    if not value.strip():
        raise ValidationError("May not be blank.")
