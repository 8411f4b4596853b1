"""The shapes of requests and answers: validation, OpenAPI and serialisation at once."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, ValidationError, fields, post_load, pre_load, validate, validates_schema
from webargs.fields import DelimitedList

from api import services
from api.bodies import Answer
from api.paging import Paging, sort_field
from api.shapes import describe
from jobs import templates
from jobs.fields import (
    JsonObject,
    QueryInteger,
    SparseSchema,
    StrictBoolean,
    StrictInteger,
    Text,
    not_blank,
    storable_text,
)
from jobs.lifecycle import Status
from jobs.priority import MAX_PRIORITY, MIN_PRIORITY, QUEUES
from jobs.retry import RetryPolicy
from jobs.store.listing import TASKS
from jobs.webhooks import guard

MAX_BATCH = 10_000
MAX_TIMEOUT_SECONDS = 86_400
MAX_DELAY_SECONDS = 366 * 86_400
_MODEL_CHARS = 200
MAX_PARENTS = 10_000
POSITIVE_ID = validate.Range(1, 2**63 - 1)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_YEARS = r"^(000[2-9]|00[1-9]\d|0[1-9]\d\d|[1-8]\d\d\d)-"  # which have room for every offset


def json_schema(schema: Schema) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `schema` loads."""
    spec = APISpec("", "", "3.1.0", plugins=[MarshmallowPlugin()])
    converter = spec.plugins[0].converter
    describe(converter)
    shape: dict[str, Any] = _inlined(converter.schema2jsonschema(schema), spec)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **shape, "additionalProperties": False}


def _inlined(shape: Any, spec: APISpec) -> Any:
    """With references to nested schemas replaced by what they refer to."""
    if isinstance(shape, list):
        return [_inlined(item, spec) for item in shape]
    if not isinstance(shape, dict):
        return shape
    if "$ref" in shape:
        return _inlined(spec.components.schemas[shape["$ref"].rpartition("/")[2]], spec)
    return {key: _inlined(value, spec) for key, value in shape.items()}


class RetrySchema(Schema):
    """A retry policy."""

    strategy = fields.String(validate=validate.OneOf(["exponential", "linear", "fixed", "custom"]))
    base_delay = fields.Float(validate=validate.Range(0, MAX_TIMEOUT_SECONDS), metadata={"description": "Seconds."})
    max_delay = fields.Float(validate=validate.Range(0, MAX_TIMEOUT_SECONDS), metadata={"description": "Seconds."})
    jitter = StrictBoolean()
    delays = fields.List(
        fields.Float(validate=validate.Range(0, MAX_TIMEOUT_SECONDS)),
        validate=validate.Length(1, 100),
        metadata={"description": "Seconds before each further try; for `custom` only."},
    )

    @validates_schema
    def _delays_belong_to_custom(self, data: dict[str, Any], **_: Any) -> None:
        if ("delays" in data) != (data.get("strategy") == "custom"):
            raise ValidationError("Given with the strategy custom, and only then.", "delays")

    @post_load
    def _whole_policy(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return RetryPolicy.from_json(data).as_json()


class UtcDateTime(fields.AwareDateTime):
    """An ISO 8601 time; one without an offset is UTC."""

    def __init__(self, **options: Any) -> None:
        metadata = {"pattern": _YEARS, **options.pop("metadata", {})}
        super().__init__(format="iso", default_timezone=UTC, metadata=metadata, **options)

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> datetime:
        try:
            moment: datetime = super()._deserialize(value, *args, **kwargs).astimezone(UTC)
        except OverflowError:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None
        if moment > _LATEST:
            raise ValidationError("Too far in the future.")
        return moment


def _without_doubles(ids: list[int]) -> None:
    if len(set(ids)) < len(ids):
        raise ValidationError("Names a task twice.")


class CallbackUrl(fields.Url):
    """Where to send word of the end."""

    def __init__(self) -> None:
        super().__init__(
            schemes={"http", "https"},
            require_tld=False,
            validate=validate.Length(max=2000),
            metadata={"description": "Gets a signed POST when it has ended.", "format": "uri", "pattern": "^https?://"},
        )

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        url: str = super()._deserialize(value, *args, **kwargs)
        storable_text(url)
        try:
            parts = urlsplit(url)
            has_secret, _ = bool(parts.username or parts.password), parts.port
            address = guard.literal(parts.hostname or "")
        except ValueError:
            raise self.make_error("invalid", input=value) from None
        if parts.scheme not in ("", "http", "https"):
            raise ValidationError("Must be http or https.")
        if has_secret:
            raise ValidationError("May not hold a name or password: others can read it.")
        # What names stand for is looked at when they are called.
        if address and not guard.is_allowed(address, services.get().settings.callback_allowed_networks):
            raise ValidationError(
                "Callbacks may not go to this address: it is not public, and not in CALLBACK_ALLOWED_NETWORKS."
            )
        return url


class NewTask(SparseSchema):
    """A task to submit."""

    task_type = fields.String(load_default="text_generation")
    prompt = Text(
        validate=not_blank,
        metadata={"description": "Required for text_generation.", "example": "用一句话介绍人工智能"},
    )
    model = Text(
        validate=validate.Length(1, _MODEL_CHARS),
        metadata={"description": "Required for text_generation.", "example": "deepseek-chat"},
    )
    priority = StrictInteger(
        validate=validate.Range(MIN_PRIORITY, MAX_PRIORITY),
        metadata={"description": "10 is most urgent: 8-10 go to the queue high, 4-7 to default, 1-3 to low."},
    )
    input = JsonObject(load_default=dict, metadata={"description": "As the task type's schema says."})
    metadata = JsonObject(load_default=dict, metadata={"description": "Kept and returned, never read."})
    timeout_seconds = StrictInteger(validate=validate.Range(1, MAX_TIMEOUT_SECONDS))
    max_retries = StrictInteger(
        validate=validate.Range(0, 100),
        metadata={"description": "Tries after the first: 3 means at most 4 attempts."},
    )
    retry = fields.Nested(RetrySchema)
    run_at = UtcDateTime(metadata={"description": "Not before this time."})
    delay_seconds = fields.Float(
        validate=validate.Range(0, MAX_DELAY_SECONDS),
        metadata={"description": "Not before this many seconds from now."},
    )
    depends_on = fields.List(
        StrictInteger(validate=POSITIVE_ID),
        validate=[validate.Length(max=MAX_PARENTS), _without_doubles],
        metadata={
            "description": "Ids of tasks that must complete first. prompt and input may then hold their results, as "
            "`{{ parents[0].result.text }}`.",
            "uniqueItems": True,
        },
    )
    unique_key = Text(
        validate=validate.Length(1, 255),
        metadata={"description": "While a task with this key is not finished, it is given back instead."},
    )
    cache_ttl = fields.Float(
        validate=validate.Range(0, MAX_DELAY_SECONDS, min_inclusive=False),
        metadata={"description": "Seconds. An equal task completed within them gives its result at once."},
    )
    callback_url = CallbackUrl()
    stream = StrictBoolean(metadata={"description": "Show the text while it is generated."})
    profile = StrictBoolean(metadata={"description": "Keep a profile of where its time goes."})

    @validates_schema(skip_on_field_errors=True)
    def _fits_its_type(self, data: dict[str, Any], **_: Any) -> None:
        tools = services.get()
        kind = tools.task_types.get(data["task_type"])
        if kind is None:
            known = ", ".join(sorted(tools.task_types))
            raise ValidationError(f"Unknown task type; there are: {known}.", "task_type")
        problems: dict[str, Any] = {}
        if kind.needs_prompt:
            problems |= {name: ["Missing data for required field."] for name in ("prompt", "model") if name not in data}
        prompt = data.get("prompt")
        if prompt is not None and len(prompt) > tools.settings.prompt_max_chars:
            problems["prompt"] = [f"Longer than {tools.settings.prompt_max_chars} characters."]
        try:
            # As loaded: numbers given as text become numbers, defaults are filled in.
            if data["input"] or not kind.takes_nothing:
                data["input"] = kind.inputs.load(data["input"])
        except ValidationError as error:
            problems["input"] = error.messages
        if "run_at" in data and "delay_seconds" in data:
            problems["run_at"] = ["Give run_at or delay_seconds, not both."]
        if data.get("depends_on"):
            problems |= _template_problems(data)
        if problems:
            raise ValidationError(problems)


def _template_problems(data: dict[str, Any]) -> dict[str, list[str]]:
    problems: dict[str, list[str]] = {}
    for name in ("prompt", "input"):
        try:
            templates.check(data.get(name))
        except templates.TemplateProblem as error:
            problems[name] = [str(error)]
    return problems


class NewBatch(Schema):
    """Tasks to submit together."""

    callback_url = CallbackUrl()

    tasks = fields.List(fields.Nested(NewTask), required=True, validate=validate.Length(1, MAX_BATCH))

    @pre_load
    def _not_too_many(self, data: Any, **_: Any) -> Any:
        # Before each of them is looked at.
        tasks = data.get("tasks") if isinstance(data, dict) else None
        if isinstance(tasks, list) and len(tasks) > MAX_BATCH:
            raise ValidationError(f"More than {MAX_BATCH} tasks.", "tasks")
        return data


class TaskErrorSchema(Schema):
    """Why a task's last attempt failed."""

    code = fields.String(metadata={"example": "timeout"})
    message = fields.String()
    retryable = fields.Boolean()
    status_code = fields.Integer(metadata={"description": "The provider's, when there was one."})


class TaskSchema(Answer):
    """A task as returned."""

    id = fields.Integer()
    prompt = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    status = fields.String(validate=validate.OneOf(list(Status)))
    priority = fields.Integer()
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()
    task_type = fields.String()
    queue = fields.String(validate=validate.OneOf(QUEUES))
    input = fields.Raw(metadata={"type": "object"})
    result = fields.Raw(allow_none=True, metadata={"type": "object"})
    error = fields.Raw(allow_none=True, metadata={"type": "object"})
    progress = fields.Integer(metadata={"description": "0 to 100."})
    attempt = fields.Integer(metadata={"description": "Attempts so far."})
    max_retries = fields.Integer()
    timeout_seconds = fields.Integer()
    retry = fields.Raw(metadata={"type": "object"})
    run_at = fields.AwareDateTime(allow_none=True)
    started_at = fields.AwareDateTime(allow_none=True)
    completed_at = fields.AwareDateTime(allow_none=True)
    usage = fields.Raw(allow_none=True, metadata={"type": "object"})
    batch_id = fields.Integer(allow_none=True)
    account_id = fields.Integer(allow_none=True)
    execution_id = fields.Integer(allow_none=True, metadata={"description": "The schedule's firing that made it."})
    parent_task_id = fields.Integer(allow_none=True, metadata={"description": "The task it tries again."})
    depends_on = fields.List(fields.Integer())
    unique_key = fields.String(allow_none=True)
    callback_url = fields.String(allow_none=True)
    stream = fields.Boolean()
    profile = fields.Boolean(metadata={"description": "A profile is kept: GET /api/v1/tasks/{id}/profile."})
    progress_message = fields.String(allow_none=True)
    waited_seconds = fields.Float(allow_none=True, metadata={"description": "Before the last attempt began."})
    run_seconds = fields.Float(allow_none=True, metadata={"description": "The last attempt."})
    metadata = fields.Raw(metadata={"type": "object"})
    cancel_requested = fields.Boolean(metadata={"description": "Running, and to be stopped."})


class TaskEventSchema(Answer):
    """One entry of a task's event log."""

    id = fields.Integer()
    at = fields.AwareDateTime()
    from_status = fields.String(allow_none=True)
    to_status = fields.String()
    attempt = fields.Integer()
    worker = fields.String(allow_none=True)
    detail = fields.Raw(allow_none=True, metadata={"type": "object"})


class BatchErrorSchema(Answer):
    """A failed task of a batch."""

    task_id = fields.Integer()
    error = fields.Nested(TaskErrorSchema)


class BatchSchema(Answer):
    """A batch as returned."""

    id = fields.Integer()
    status = fields.String(validate=validate.OneOf(["PROCESSING", "COMPLETED", "CANCELLED"]))
    total = fields.Integer()
    counts = fields.Dict(keys=fields.String(), values=fields.Integer())
    progress = fields.Integer(metadata={"description": "Percent of its tasks that have ended."})
    errors = fields.List(fields.Nested(BatchErrorSchema), metadata={"description": "The first 100."})
    callback_url = fields.String(allow_none=True)
    created_at = fields.AwareDateTime()
    completed_at = fields.AwareDateTime(allow_none=True)


class StatusName(fields.String):
    """A state, in capitals or not."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> str:
        return str(super()._deserialize(value, *args, **kwargs)).strip().upper()


class TaskQuery(Paging):
    """The query of the task list."""

    status = DelimitedList(
        StatusName(validate=validate.OneOf(list(Status))),
        validate=validate.Length(1),
        metadata={"description": "One state, or several separated by commas."},
    )
    priority = QueryInteger(validate=validate.Range(MIN_PRIORITY, MAX_PRIORITY))
    task_type = Text()
    queue = fields.String(validate=validate.OneOf(QUEUES))
    batch_id = QueryInteger(validate=POSITIVE_ID)
    account_id = QueryInteger(validate=POSITIVE_ID)
    created_after = UtcDateTime()
    created_before = UtcDateTime()
    search = Text(
        validate=validate.Length(1, 200),
        metadata={
            "description": "A piece of the prompt or the input. A page looks through 5,000 tasks of the list, so it "
            "may be short, or empty, and have a next one; X-Total-Count says how many there are among the first 5,000."
        },
    )
    sort = sort_field(TASKS)


class IdempotencyHeader(Schema):
    """The header that makes a creation safe to repeat."""

    class Meta:
        unknown = "exclude"

    def load(self, data: Any, **options: Any) -> Any:
        """As marshmallow's, which takes many steps also where nothing was given."""
        return super().load(data, **options) if data else {}

    idempotency_key = Text(
        data_key="Idempotency-Key",
        validate=validate.Length(1, 255),
        metadata={"description": "The same key and body give back the same answer for a day."},
    )
