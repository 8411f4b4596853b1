"""What `make run` says: its own lines and those of the processes it started, for people or as JSON."""

import sys
from datetime import UTC, datetime

import orjson

from jobs.secrets import clean

_COLOURS = {"postgres": 34, "redis": 31, "web": 32, "worker": 36, "scheduler": 35, "pressroom": 1}
_WIDTH = max(map(len, _COLOURS))


class Terminal:
    """Standard output. With `as_json`, every line is one JSON object, as those of our processes then are already."""

    as_json = False

    def say(self, name: str, text: str) -> None:
        """One line, with who says it; coloured where somebody looks at it."""
        text = clean(text)
        if self.as_json:
            line = text if text.startswith("{") else _as_object(name, text)
        elif sys.stdout.isatty():
            line = f"\x1b[{_COLOURS.get(name, 0)}m{name:<{_WIDTH}} │ \x1b[0m{text}"
        else:
            line = f"{name:<{_WIDTH}} │ {text}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _as_object(name: str, text: str) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return orjson.dumps({"event": text.strip(), "level": "info", "timestamp": now, "process": name}).decode()


terminal = Terminal()
say = terminal.say
