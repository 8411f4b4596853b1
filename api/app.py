"""The web application."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response
from werkzeug.datastructures import Headers
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter, ValidationError

from api import (
    accounts,
    alerts,
    audit,
    auth,
    callbacks,
    console,
    contents,
    daily_life,
    dashboard,
    document,
    embeddings,
    errors,
    headers,
    health,
    limits,
    live,
    login,
    memories,
    meta,
    metrics,
    requests,
    schedules,
    services,
    stats,
    task_types,
    tasks,
)
from api.bodies import OrjsonProvider
from jobs import __version__, access, logs, settings
from jobs.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_WITH_A_BODY: Final = frozenset({200, 201, 202, *range(400, 600)})
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_.-]+)+")

_DESCRIPTION = """Send a prompt, get a task; a worker asks the model; the answer stays in PostgreSQL.

Errors are always `{"code", "status", "message", "errors"?}`. Every answer carries `X-Request-ID`."""

_ROOMS = (
    tasks, live, task_types, callbacks, accounts, contents, schedules, daily_life, memories, embeddings, stats, health,
    alerts, metrics, audit,
)  # fmt: skip


class IdConverter(BaseConverter):
    """Ids in paths: from 1 up to 64 bits; anything else is no such page."""

    regex = r"[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        """The number."""
        number = int(value)
        if not 0 < number < 2**63:
            raise ValidationError
        return number


class Reply(Response):
    """Flask's; its headers are not copied, and all checked once more, where there is nothing to change in them."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """As werkzeug's, which makes addresses of texts in other scripts, and counts or takes away the length."""
        if self.status_code not in _WITH_A_BODY:
            return super().get_wsgi_headers(environ)
        is_counted = False
        for name, value in self.headers:
            name = name.lower()
            is_counted = is_counted or name == "content-length"
            if name == "content-location" or (name == "location" and not _PATH.fullmatch(value)):
                return super().get_wsgi_headers(environ)
        return self.headers if is_counted else super().get_wsgi_headers(environ)


class App(Flask):
    """Flask, which need not find out again and again with each request that no view is a coroutine."""

    response_class = Reply

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself."""
        return func


def create_app(configured: Settings | None = None) -> Flask:
    """The app for one web process.

    Raises:
        SettingsError: wrong settings, or open to others without keys.
    """
    if configured is None:
        configured = settings.load()
        logs.configure(configured, "api")
    access.check_exposure(configured)
    app = App(__name__)
    app.json = OrjsonProvider(app)
    app.url_map.strict_slashes = False
    app.url_map.converters["id"] = IdConverter
    app.config.update(
        API_TITLE="Pressroom",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
        API_SPEC_OPTIONS={"info": {"description": _DESCRIPTION}},
        # flask-smorest answers 500 by itself; the traceback belongs in the log only.
        PROPAGATE_EXCEPTIONS=False,
    )
    app.wsgi_app = requests.Turns(app.wsgi_app, services.WEB_THREADS)  # type: ignore[method-assign]
    if configured.trusted_proxies:
        # The addresses and the scheme only: a proxy that does not set X-Forwarded-Host would hand on the caller's.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=configured.trusted_proxies, x_proto=configured.trusted_proxies
        )
    services.install(app, services.build(configured))
    requests.register(app)
    headers.register(app)
    metrics.register(app)
    counter = limits.Counter(configured.redis_url)
    limits.limit_failures(app, counter)
    auth.register(app)
    limits.limit_callers(app, counter, configured)
    audit.register(app)
    errors.register(app)
    api = errors.JsonErrorApi(app, spec_kwargs={"extra_plugins": [document.Completion()]})
    api.register_converter(IdConverter, lambda _: {"type": "integer", "minimum": 1, "maximum": 2**63 - 1})
    for room in _ROOMS:
        api.register_blueprint(room.blueprint)
    document.finish(api.spec, app.extensions["pressroom"].task_types, configured.prompt_max_chars)
    app.register_blueprint(meta.blueprint)
    app.register_blueprint(login.blueprint)
    console.register(app)
    dashboard.register(app)
    tools = app.extensions["pressroom"]
    tools.database.open()
    if tools.statistics is not tools.database:
        tools.statistics.open()
    return app
