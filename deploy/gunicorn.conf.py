"""gunicorn's settings, from ours. Wrong ones end it here, with one message and exit code 2."""

from api.services import WEB_THREADS
from jobs import logs, settings
from jobs.errors import SettingsError

_settings = settings.load_or_exit()
try:
    settings.check_exposure(_settings)
except SettingsError as error:
    settings.fail(error)

wsgi_app = "api:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = 2  # WEB_CONCURRENCY, where a platform sets it, is gunicorn's own and wins
worker_class = "gthread"
threads = WEB_THREADS
graceful_timeout = int(_settings.shutdown_grace_seconds)
timeout = 60
keepalive = 30
control_socket_disable = True
# The heartbeat file of a worker must not be on a disk that can be slow or full.
worker_tmp_dir = "/dev/shm" if __import__("os").path.isdir("/dev/shm") else None
# Our own request lines say more.
accesslog = None


class _Logger(__import__("gunicorn.glogging", fromlist=["Logger"]).Logger):
    """gunicorn's messages through our handlers."""

    def setup(self, cfg):  # noqa: ANN001, ANN202
        logs.configure(_settings, "api")
        self.error_log.setLevel("INFO")
        self.error_log.propagate = True


logger_class = _Logger
