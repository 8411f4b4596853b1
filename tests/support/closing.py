"""The end of a web app that was made in this process."""

import threading

from flask import Flask

from api import services
from tests.support.waiting import wait_until


def close(app: Flask) -> None:
    """Let go of all that it holds."""
    with app.app_context():
        tools = services.get()
    tools.hub.stop()
    wait_until(lambda: "watching" not in {thread.name for thread in threading.enumerate()}, "the hub has stopped")
    tools.database.close()
    tools.statistics.close()
    tools.doorbell.connection.close()
