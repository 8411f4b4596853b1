"""The quick way to read a task says exactly what marshmallow's own says."""

from types import SimpleNamespace
from typing import Any

from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError

from api.schemas import NewTask
from jobs.fields import SparseSchema
from jobs.handlers import registry


class AsMarshmallow(NewTask):
    """The same, read by marshmallow itself."""

    _deserialize = Schema._deserialize  # type: ignore[assignment]


_WORDS = st.sampled_from(["", " ", "text", "a\x00b", "\ud800", "{{ parents[0].result.text }}", "fixed", "custom", "3"])
_NUMBERS = st.sampled_from([0, 1, 5, 10, 11, -1, 2.0, 2.5, 10**30, True, False])
_PLAIN = st.none() | _WORDS | _NUMBERS
_ANY = st.recursive(
    _PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["temperature", "strategy", "delays", "messages", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
_NAMES = st.sampled_from([*NewTask().fields, "surprise"])
_GOOD = {"prompt": "p", "model": "m"}
_BODIES = st.dictionaries(_NAMES, _ANY, max_size=5).map(lambda more: {**_GOOD, **more}) | _ANY


_app = Flask(__name__)
_app.extensions["pressroom"] = SimpleNamespace(
    task_types=registry.load(), settings=SimpleNamespace(prompt_max_chars=50, callback_allowed_networks=())
)


def _outcome(schema: Schema, body: Any) -> Any:
    with _app.app_context():
        try:
            return schema.load(body)
        except ValidationError as error:
            return error.messages


@settings(max_examples=500, deadline=None)
@given(body=_BODIES)
def test_tasks_are_read_as_marshmallow_reads_them(body: Any) -> None:
    assert _outcome(NewTask(), body) == _outcome(AsMarshmallow(), body)


def test_the_fields_have_no_other_names() -> None:
    for schema in SparseSchema.__subclasses__():
        for field in schema().fields.values():
            assert field.data_key is None
            assert field.attribute is None
