"""gunicorn's settings, from ours. Wrong ones end it here, with one message and exit code 2."""

import shutil
from pathlib import Path

from gunicorn.glogging import Logger

from jobs import logs, settings
from jobs.errors import SettingsError
from jobs.handlers import registry

_settings = settings.load_or_exit()
_metrics = settings.share_metrics()
try:
    settings.check_exposure(_settings)
    registry.load(_settings.handler_modules)
except SettingsError as error:
    shutil.rmtree(_metrics)
    settings.fail(error)

# Only now: prometheus_client looks for the directory when it is imported.
from api.metrics import forget_process  # noqa: E402
from api.services import WEB_THREADS  # noqa: E402


class _Logger(Logger):
    """gunicorn's messages through our handlers."""

    def setup(self, cfg):
        """Once in each process."""
        logs.configure(_settings, "api")
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


def child_exit(server, worker):
    """A web process has ended."""
    forget_process(worker.pid)


def on_exit(server):
    """The timings end with the server."""
    shutil.rmtree(_metrics, ignore_errors=True)
