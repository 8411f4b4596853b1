"""Request bodies and JSON answers: strict on the way in, readable on the way out."""

from collections.abc import Callable
from typing import Any, Final, cast

import flask
import orjson
from flask.json.provider import JSONProvider
from flask_smorest import Blueprint as SmorestBlueprint
from marshmallow import Schema, ValidationError, fields, validates_schema
from webargs import core
from webargs.flaskparser import FlaskParser, is_json_request

from api import strict_json
from api.errors import abort

_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


class StrictParser(FlaskParser):
    """Reads JSON strictly: see `api.strict_json`."""

    def _raw_load_json(self, req: flask.Request) -> Any:
        body = req.get_data(cache=True)
        if not body:
            return core.missing
        # Without a content type it may still be JSON, and says so itself.
        if req.content_type != "application/json" and req.mimetype and not is_json_request(req):
            abort(400, message="Send the body as JSON, with Content-Type: application/json.")
        if req.content_encoding:
            abort(415, message="Send the body as it is, without Content-Encoding.")
        try:
            return strict_json.loads(body)
        except ValueError as error:
            abort(400, message="The request body is not valid JSON.", errors={"json": [str(error)]})

    def load_headers(self, req: flask.Request, schema: Schema) -> Any:
        """Those that the schema asks for: looking through all of them takes longer than reading these."""
        names = [field.data_key or name for name, field in schema.load_fields.items()]
        given = [(name, req.headers.get(name)) for name in names]
        return {name: value for name, value in given if value is not None}


class Answer(Schema):
    """What is returned: every field is always there."""

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Have the OpenAPI document say so."""
        field_obj.required = True


class Change(Schema):
    """What may be changed of something."""

    @validates_schema
    def _something(self, data: dict[str, Any], **_: Any) -> None:
        if not data:
            raise ValidationError("Name at least one field to change.")


class Blueprint(SmorestBlueprint):
    """A group of resources with strict bodies."""

    ARGUMENTS_PARSER = StrictParser()

    def arguments(self, schema: type[Schema], **options: Any) -> Callable[[Any], Any]:
        """As flask-smorest's, with one instance of the schema for all requests: making one costs more than its use."""
        decorated: Callable[[Any], Any] = super().arguments(schema(), **options)
        return decorated


class OrjsonProvider(JSONProvider):
    """Flask's JSON through orjson: UTF-8 without escapes, times as RFC 3339 with Z."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """As text."""
        return orjson.dumps(obj, option=_OPTIONS).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """From text."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Any:
        """A JSON answer; a line end makes it kind to terminals."""
        body = orjson.dumps(self._prepare_response_obj(args, kwargs), option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)
        return cast(flask.Flask, self._app).response_class(body, content_type="application/json")
