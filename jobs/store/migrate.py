"""Forward migrations: `migrations/NNNN_name.sql`, each run once, in order, under one advisory lock.

`python -m jobs.store.migrate` is the release command.
"""

from pathlib import Path

import psycopg
import structlog

from jobs import logs, settings

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x70726573  # "pres": any constant that nobody else in this database uses


def pending(applied: set[str]) -> list[Path]:
    """The migration files that are not among `applied`, in order."""
    return [path for path in sorted(MIGRATIONS.glob("*.sql")) if path.stem not in applied]


def migrate(url: str, *, until: str | None = None) -> list[str]:
    """Bring the database up to date; safe to call from many processes at once.

    Args:
        until: stop after this migration (its file's stem); all when None.

    Returns:
        The migrations applied by this call.

    Raises:
        psycopg.Error: the database cannot be reached or a statement fails; none of this call's
            migrations is then applied.
    """
    done: list[str] = []
    with psycopg.connect(url, connect_timeout=10) as connection:
        # Transaction-level, so that it also works through a transaction-mode pooler.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {row[0] for row in connection.execute("SELECT name FROM schema_migrations")}
        for path in pending(applied):
            if until is not None and path.stem > until:
                break
            connection.execute(path.read_text(encoding="utf-8"))
            connection.execute("INSERT INTO schema_migrations (name) VALUES (%s)", (path.stem,))
            done.append(path.stem)
    return done


def main() -> int:
    """The release command: migrate, say what was done."""
    configured = settings.load_or_exit()
    logs.configure(configured, "release")
    try:
        done = migrate(configured.direct_url)
    except psycopg.OperationalError as error:
        log.critical("cannot reach the database", reason=str(error).partition("\n")[0])
        return 1
    log.info("migrated", migrations=", ".join(done) or "nothing to do")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
