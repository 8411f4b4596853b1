"""What is asked of tables that grow large reads little more than it tells."""

import re
from typing import Any

import pytest

from jobs.store.database import Database
from jobs.store.queries import QUERIES

_MONTH = {"zone": "UTC", "since": "2026-03-01T00:00:00Z", "until": "2026-04-05T00:00:00Z"}
_DAYS, _DAILY = 31, 720


@pytest.fixture
def _firings(database: Database) -> None:
    """A month of five schedules: the first fired once a day, the others every two minutes."""
    with database.transaction() as session:
        session.run(
            "INSERT INTO executions (schedule_id, schedule_name, task_type, params, timezone, scheduled_for, trigger,"
            " status, completed_at) SELECT schedule, 'S', 'cleanup', '{}', 'UTC', slot, 'schedule', 'COMPLETED', now()"
            " FROM generate_series(1, 5) AS schedule, LATERAL generate_series('2026-03-01T00:00:00Z'::timestamptz,"
            " '2026-03-31T23:59:59Z', CASE schedule WHEN 1 THEN interval '1 day' ELSE interval '2 minutes' END) AS slot"
        )
        session.run("ANALYZE executions")


def most_read(plan: dict[str, Any]) -> int:
    """The most rows of a table, or entries of an index, that a part of a plan has read."""
    seen = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    here = sum(plan.get(name, 0) for name in seen) * plan["Actual Loops"]
    return max(int(here), *(most_read(part) for part in plan.get("Plans", ())), 0)


def carried_out(database: Database, name: str, parameters: dict[str, Any], *, is_prepared: bool) -> dict[str, Any]:
    """The plan of a statement; of a prepared one, made without a look at its parameters."""
    statement: Any = QUERIES[name]
    with database.transaction() as session:
        if not is_prepared:
            (row,) = session.run(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            return dict(row["QUERY PLAN"][0]["Plan"])
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        for number, parameter in enumerate(names, start=1):
            statement = statement.replace(f"%({parameter})s", f"${number}")
        values = ", ".join(f"'{parameters[parameter]}'" for parameter in names)
        execute: Any = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({values})"
        session.run("SET LOCAL plan_cache_mode = force_generic_plan")
        session.run(f"PREPARE asked AS {statement}")
        (row,) = session.run(execute)
        session.run("DEALLOCATE asked")
        return dict(row["QUERY PLAN"][0]["Plan"])


@pytest.mark.usefixtures("_firings")
class TestExecutionsByDay:
    def test_those_of_one_schedule_or_of_all_are_counted(self, database: Database) -> None:
        for schedule, daily in ((0, 1 + 4 * _DAILY), (1, 1), (2, _DAILY)):
            rows = database.all("executions_by_day", {**_MONTH, "schedule_id": schedule})
            assert [row["firings"] for row in rows] == [daily] * _DAYS
        assert database.all("executions_by_day", {**_MONTH, "schedule_id": 9}) == []

    @pytest.mark.parametrize("is_prepared", [False, True])
    def test_one_schedules_are_read_without_the_others(self, database: Database, *, is_prepared: bool) -> None:
        asked = {**_MONTH, "schedule_id": 1}
        assert most_read(carried_out(database, "executions_by_day", asked, is_prepared=is_prepared)) == _DAYS
