"""Logging for all processes: JSON lines or readable text on stdout, files under LOG_DIR, secrets redacted."""

import fcntl
import json
import logging
import logging.handlers
import os
import re
import sys
import threading
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

from jobs.secrets import HIDDEN, clean, learn
from jobs.settings import Settings

bind = structlog.contextvars.bind_contextvars
"""Have every line say what it is about, as `task_id=7`: of this asyncio task, thread or request, from now on."""

about = structlog.contextvars.bound_contextvars
"""The same, while in the block."""

_SECRET_NAME = re.compile(r"(?i)(?:passwo?r?d|secret|token|api_?key|authorization|cookie)\Z")
_FILE_BYTES = 20_000_000
_FILES_KEPT = 5


def configure(settings: Settings, process: str, secrets: Sequence[str] = ()) -> None:
    """Set up structlog and the standard library's logging for this process, once.

    Args:
        process: `api`, `worker`, `scheduler` or `release`; names the file under LOG_DIR, and stands in JSON lines.
        secrets: what must not be shown besides the secrets in the settings.
    """
    learn([*settings.secrets(), *secrets])
    render = _renderer(settings.log_format, process)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, render, _as_line],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs next to nothing.
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        cache_logger_on_first_use=True,
    )
    formatter = _Formatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if settings.log_dir:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(
            _SharedFile(
                settings.log_dir / f"{process}.log",
                maxBytes=_FILE_BYTES,
                backupCount=_FILES_KEPT,
                encoding="utf-8",
            )
        )
    # Our lines do not say where in the code, nor in which thread they were written; to find it out for each costs.
    # https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers = handlers
    for handler in handlers:
        handler.setFormatter(formatter)
    root.setLevel(settings.log_level)
    _catch_all()
    # These log every request or command at INFO; our own lines say what matters.
    for noisy in ("httpx", "rq", "rq_scheduler", "werkzeug", "psycopg.pool", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Makes lines of what libraries log; ours are lines already, made once for all handlers."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return str(record.msg) if hasattr(record, "is_line") else super().format(record)


def _as_line(_logger: Any, _method: str, line: Any) -> tuple[tuple[str], dict[str, Any]]:
    """What the standard library's logger is called with."""
    return (line,), {"extra": {"is_line": True}}


class _SharedFile(logging.handlers.RotatingFileHandler):
    """A file that several processes write to: whoever finds it full moves it on, and the others follow."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        """Whether it is full."""
        self._follow()
        return bool(super().shouldRollover(record))

    def doRollover(self) -> None:  # noqa: N802
        """Move it on, unless another process just did."""
        with Path(f"{self.baseFilename}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._follow():
                super().doRollover()

    def _follow(self) -> bool:
        """Open it anew where the name now belongs to another file; whether it did."""
        with suppress(FileNotFoundError):
            if self.stream and os.path.samestat(os.fstat(self.stream.fileno()), Path(self.baseFilename).stat()):
                return False
        if self.stream:
            self.stream.close()
        self.stream = self._open()
        return True


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets out of a line; what is added afterwards holds none."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = HIDDEN if _is_secret(key) else clean(value)
        elif value is not None and not isinstance(value, (int, float)) and not key.startswith("_"):
            event[key] = HIDDEN if _is_secret(key) else clean(str(value))
    return event


@lru_cache(1000)
def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name))


def _catch_all() -> None:
    """Have the log tell what would otherwise be written to standard error as it is."""
    log = structlog.get_logger("uncaught")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("uncaught exception", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value and not isinstance(args.exc_value, SystemExit):
            name = args.thread.name if args.thread else None
            log.error("uncaught exception in a thread", thread=name, exc_info=args.exc_value)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        log.error("exception ignored", where=repr(args.object), exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable
    logging.captureWarnings(True)


def _renderer(log_format: str, process: str) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(serializer=lambda event, **_: _as_json({**event, "process": process}))
    return _as_text


def _as_json(event: dict[str, Any]) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except orjson.JSONEncodeError:  # halves of surrogate pairs, integers of more than 64 bits
        return json.dumps(event, default=str)


def _as_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """`time LEVEL message key=value...`; structlog's own console renderer costs ten times as much."""
    exception = event.pop("exception", None)
    head = f"{event.pop('timestamp')} {event.pop('level').upper():<7} {event.pop('event')}"
    facts = [f"{key}={_quoted(value)}" for key, value in event.items() if value is not None]
    return " ".join([head, *facts]) + (f"\n{exception}" if exception else "")


def _quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text or "\n" in text or not text else text
