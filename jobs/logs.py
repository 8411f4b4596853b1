"""Logging for all processes: JSON lines or readable text on stdout, files under LOG_DIR, secrets redacted."""

import logging
import logging.handlers
import re
import sys
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import orjson
import structlog
from structlog.typing import Processor

from jobs.settings import Settings

_CREDENTIALS_IN_URL = re.compile(r"(\w+://)[^/\s:@]*:[^/\s@]+@")
_TOKEN = re.compile(r"(pr_[0-9a-f]{12}_)[0-9a-f]{64}")
_HIDDEN = "[redacted]"
_FILE_BYTES = 20_000_000
_FILES_KEPT = 5


def configure(settings: Settings, process: str, secrets: Sequence[str] = ()) -> None:
    """Set up structlog and the standard library's logging for this process, once.

    Args:
        process: `api`, `worker` or `scheduler`; names the file under LOG_DIR.
        secrets: what must not be shown besides the secrets in the settings.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redactor([*settings.secrets(), *secrets]),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _renderer(settings.log_format),
        ],
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if settings.log_dir:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                settings.log_dir / f"{process}.log",
                maxBytes=_FILE_BYTES,
                backupCount=_FILES_KEPT,
                encoding="utf-8",
            )
        )
    root = logging.getLogger()
    root.handlers = handlers
    for handler in handlers:
        handler.setFormatter(formatter)
    root.setLevel(settings.log_level)
    # These log every request or command at INFO; our own lines say what matters.
    for noisy in ("httpx", "rq", "rq_scheduler", "werkzeug", "psycopg.pool", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def redactor(secrets: list[str]) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    """A structlog processor that hides `secrets` and passwords in URLs, in every text of an event."""
    known = re.compile("|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))) if secrets else None

    def clean(text: str) -> str:
        if known:
            text = known.sub(_HIDDEN, text)
        text = _TOKEN.sub(rf"\1{_HIDDEN}", text)
        return _CREDENTIALS_IN_URL.sub(rf"\1{_HIDDEN}@", text) if "://" in text else text

    def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = clean(value)
            elif not isinstance(value, (int, float, bool, type(None))) and not key.startswith("_"):
                event[key] = clean(str(value))
        return event

    return redact


def _renderer(log_format: str) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(
            serializer=lambda event, **_: orjson.dumps(event, default=str).decode()
        )
    return _as_text


def _as_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """`time LEVEL message key=value...`; structlog's own console renderer costs ten times as much."""
    exception = event.pop("exception", None)
    head = f"{event.pop('timestamp')} {event.pop('level').upper():<7} {event.pop('event')}"
    facts = [f"{key}={_quoted(value)}" for key, value in event.items() if value is not None]
    return " ".join([head, *facts]) + (f"\n{exception}" if exception else "")


def _quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text or "\n" in text or not text else text
