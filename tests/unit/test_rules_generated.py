"""The pure rules hold for whatever they are given."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError

from api.schemas import UtcDateTime
from jobs import splitting, templates
from jobs.errors import AttemptError, TaskError
from jobs.handlers.daily_life import DaySchedule
from jobs.priority import QUEUES, queue_for
from jobs.retry import JITTER_SHARE, RetryPolicy, Tries, decide
from jobs.structured import parse
from scheduler.planner import GRACE, MOST_FIRED, MOST_NOTED, plan, timetable_of
from scheduler.timetable import UNITS

seconds = st.floats(0, 86_400)
policies = st.builds(
    RetryPolicy,
    strategy=st.sampled_from(["exponential", "linear", "fixed", "custom"]),
    base_delay=seconds,
    max_delay=seconds,
    jitter=st.booleans(),
    delays=st.lists(seconds, min_size=1, max_size=5).map(tuple),
)
errors = st.builds(
    TaskError,
    code=st.sampled_from(["timeout", "rate_limited", "provider_error", "handler_error"]),
    message=st.just("no"),
    retryable=st.booleans(),
    status_code=st.none() | st.sampled_from([429, 500, 503]),
    retry_after=st.none() | seconds,
)


@given(policies, errors, st.integers(1, 200), st.integers(0, 100), seconds, st.floats(0, 1, exclude_max=True))
def test_a_retry_waits_as_its_policy_and_the_provider_say(
    policy: RetryPolicy, error: TaskError, attempt: int, most: int, now: float, chance: float
) -> None:
    decision = decide(policy, error, Tries(attempt, most), now, chance)
    if decision.delay is None:
        assert not error.means_busy
        assert not error.retryable or attempt > most
        return
    assert decision.free == error.means_busy
    assert decision.delay >= 1 or not decision.free
    assert decision.delay >= (error.retry_after or 0.0)
    if not decision.free:
        assert error.retryable
        assert attempt <= most
        planned = policy.delay(attempt)
        longest = max(policy.delays) if policy.strategy == "custom" else policy.max_delay
        assert 0 <= planned <= longest
        assert planned <= max(decision.delay, planned)
        assert decision.delay <= max(planned * (1 + JITTER_SHARE), error.retry_after or 0.0)
        assert policy.jitter or decision.delay == max(planned, error.retry_after or 0.0)


@given(policies, st.lists(errors, min_size=30, max_size=30), st.integers(0, 5), st.floats(0, 3600))
def test_no_task_is_tried_more_often_than_it_may_be(
    policy: RetryPolicy, failures: list[TaskError], most: int, patience: float
) -> None:
    now, attempt, counted, limited_since = 0.0, 1, 1, None
    for error in failures:
        decision = decide(policy, error, Tries(attempt, most, limited_since, patience), now)
        if decision.delay is None:
            break
        limited_since = (now if limited_since is None else limited_since) if decision.free else None
        assert limited_since is None or now - limited_since < max(patience, 1e-9)
        now += decision.delay
        if not decision.free:
            attempt += 1
            counted += 1
    assert counted <= most + 1


@given(st.integers(-100, 100))
def test_a_priority_has_one_queue_and_a_higher_one_no_lower_queue(priority: int) -> None:
    if not 1 <= priority <= 10:
        with pytest.raises(ValueError):
            queue_for(priority)
        return
    places = [QUEUES.index(queue_for(higher)) for higher in range(priority, 11)]
    assert places == sorted(places, reverse=True)


SPRING = (datetime.fromisoformat("2026-03-01"), datetime.fromisoformat("2026-04-30"))
now_ish = st.datetimes(*SPRING, timezones=st.just(UTC))


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, Any]:
    by_cron = draw(st.booleans())
    crons = ["* * * * *", "*/7 * * * *", "30 2 * * *", "0 0 29 3 *", "15,45 */3 * * sun"]
    facts: dict[str, Any] = {
        "cron_expression": draw(st.sampled_from(crons)) if by_cron else None,
        "interval": None if by_cron else draw(st.integers(1, 500)),
        "interval_unit": None if by_cron else draw(st.sampled_from(list(UNITS))),
        "timezone": draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"])),
        "anchor": draw(now_ish),
        "starts_at": None,
        "ends_at": draw(st.none() | now_ish),
        "is_active": draw(st.booleans()),
        "is_working": draw(st.booleans()),
        "misfire_policy": draw(st.sampled_from(["fire_once", "fire_all", "skip"])),
        "overlap_policy": draw(st.sampled_from(["skip", "allow", "queue"])),
    }
    return {**facts, "next_slot": timetable_of(facts).next_slot(draw(now_ish))}


@given(schedules(), st.lists(st.floats(0, 5 * 86_400), min_size=1, max_size=6))
def test_every_slot_is_accounted_for_exactly_once(schedule: dict[str, Any], pauses: list[float]) -> None:
    if schedule["next_slot"] is None:
        return
    first = now = schedule["next_slot"]
    accounted: list[datetime] = []
    summed_up = False
    for pause in pauses:
        now += timedelta(seconds=pause)
        if schedule["next_slot"] is None or schedule["next_slot"] > now:
            continue
        verdicts, following = plan(schedule, now)
        slots = [verdict.slot for verdict in verdicts]
        summed_up |= len(slots) > MOST_NOTED
        assert len(slots) <= MOST_NOTED + 1
        assert slots[0] == schedule["next_slot"]
        assert all(slot <= now for slot in slots)
        assert following is None or following > now
        check_fired(schedule, now, [verdict.slot for verdict in verdicts if verdict.reason is None])
        accounted += slots
        schedule["next_slot"] = following
    assert accounted == sorted(set(accounted))
    if not summed_up and accounted:
        passed = [first]
        for slot in timetable_of(schedule).slots(first):
            if slot > now:
                break
            passed.append(slot)
        assert accounted == passed


def check_fired(schedule: dict[str, Any], now: datetime, fired: list[datetime]) -> None:
    missed = [slot for slot in fired if now - slot > GRACE]
    assert len(missed) <= {"skip": 0, "fire_once": 1, "fire_all": MOST_FIRED}[schedule["misfire_policy"]]
    if not schedule["is_active"] or (schedule["overlap_policy"] == "skip" and schedule["is_working"]):
        assert not fired


texts = st.text(st.characters(codec="utf-8") | st.sampled_from(" \n\n..。！ab"), max_size=300)


@given(texts, st.integers(1, 40))
def test_parts_are_the_text_in_order_and_none_too_long(text: str, size: int) -> None:
    found = splitting.split(text, size)
    assert all(len(part) <= size for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(found) or found == [""]


@given(st.lists(texts, max_size=30), st.integers(1, 500))
def test_groups_are_the_texts_in_order_and_shrink_in_number(given_texts: list[str], size: int) -> None:
    made = splitting.groups(given_texts, size)
    assert [text for group in made for text in group] == given_texts
    assert all(len(group) >= 2 for group in made[:-1])
    assert all(len(group) == 2 or sum(map(len, group)) <= size for group in made if len(group) > 1)


pieces = st.sampled_from([
    "{{", "}}", "{%", "%}", "{#", "#}", " ", "parents", "[0]", ".result", ".text", "|join", "|tojson", "|truncate(5)",
    "|map(attribute='id')", "for p in parents", "endfor", "if parents", "else", "endif", "set x = 1", "import os", "1",
    "'a'", "(", ")", "*9", "-", "~", "loop", "parents|length", "|default('')", "range(9)", "__class__", "\n",
])  # fmt: skip
jinja = st.lists(pieces, max_size=14).map("".join) | st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "result", "id"]), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=3), jinja, max_size=3), st.lists(st.fixed_dictionaries({"result": json_values}))
)
def test_a_template_is_refused_or_filled_in_or_its_task_fails(value: dict[str, str], parents: list[Any]) -> None:
    try:
        templates.check(value)
    except templates.TemplateProblem:
        return
    try:
        filled = templates.fill(value, parents, "input")
    except AttemptError as error:
        assert error.error.code == "template_error"  # noqa: PT017
        return
    assert filled.keys() == value.keys()
    assert all(isinstance(text, str) for text in filled.values())


class Moment(Schema):
    """As in `created_after`."""

    at = UtcDateTime()


LONG = (datetime.fromisoformat("0002-01-02"), datetime.fromisoformat("8999-12-30"))


@given(st.datetimes(*LONG, timezones=st.timezones()), st.sampled_from("T "))
def test_times_are_read_as_they_were_written(moment: datetime, between: str) -> None:
    written = moment.isoformat(between)
    try:
        read = Moment().load({"at": written})["at"]
    except ValidationError:
        # Offsets with seconds are of the time before time zones; RFC 3339 has no words for them.
        assert (moment.utcoffset() or timedelta()).seconds % 60
    else:
        assert read == datetime.fromisoformat(written)
        assert read.utcoffset() == timedelta(0)


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", fullmatch=True))
def test_other_times_are_refused_in_words(written: str) -> None:
    try:
        read = Moment().load({"at": written})["at"]
    except ValidationError as error:
        assert list(error.messages) == ["at"]  # noqa: PT017
    else:
        assert read.utcoffset() == timedelta(0)


@given(
    st.text(max_size=20)
    | json_values.map(str)
    | st.sampled_from(["```json\n{}\n```", "```", "``````", "[]", "[" * 5000])
)
def test_structured_answers_fit_or_are_refused_in_words(text: str) -> None:
    with suppress(ValidationError):
        assert parse(text, DaySchedule())["schedule_items"]
