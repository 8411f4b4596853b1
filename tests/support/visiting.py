"""Pages in a browser, with whatever they asked for and complained about."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page


class Visit:
    """A page, with whatever it asked for and complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.location.get('url')}: {message.text}")


def picture(page: Page, name: str) -> None:
    """A picture in the directory SCREENSHOTS, when that is set."""
    if directory := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(directory) / f"{name}.png"))
