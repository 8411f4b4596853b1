"""gunicorn's settings, from ours. Wrong ones end it here, with one message and exit code 2."""

from pathlib import Path

from gunicorn.glogging import Logger

from api.services import WEB_THREADS
from jobs import logs, settings
from jobs.errors import SettingsError
from jobs.handlers import registry
from jobs.providers import catalog

_settings = settings.load_or_exit()
try:
    settings.check_exposure(_settings)
    registry.load(_settings.handler_modules)
    _keys = catalog.keys(_settings)
except SettingsError as error:
    settings.fail(error)


class _Logger(Logger):
    """gunicorn's messages through our handlers."""

    def setup(self, cfg):
        """Once in each process."""
        logs.configure(_settings, "api", _keys)
        self.error_log.setLevel("INFO")
        self.error_log.propagate = True


wsgi_app = "api:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "gthread"
threads = WEB_THREADS
graceful_timeout = int(_settings.shutdown_grace_seconds)
timeout = 60
keepalive = 30
control_socket_disable = True
# The heartbeat file of a web process must not be on a disk that can be slow or full.
_memory = Path("/dev/shm")  # noqa: S108
worker_tmp_dir = str(_memory) if _memory.is_dir() else None
# Our own request lines say more.
accesslog = None
logger_class = _Logger
