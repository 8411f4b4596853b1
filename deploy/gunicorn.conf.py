"""gunicorn's settings, from ours. Wrong ones end it here, with one message and exit code 2."""

import gc
import resource
import shutil
import signal
import sys
from pathlib import Path

from gunicorn import util
from gunicorn.glogging import Logger

from deploy import refusals
from jobs import access, logs, settings
from jobs.errors import SettingsError
from jobs.handlers import registry
from jobs.providers import catalog

_settings = settings.load_or_exit()
_metrics = settings.share_metrics()
try:
    access.check_exposure(_settings)
    registry.load(_settings.handler_modules)
    _keys = catalog.keys(_settings)
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
        logs.configure(_settings, "api", _keys)
        self.error_log.setLevel("INFO")
        self.error_log.propagate = True

    def exception(self, msg, *args, **kwargs):
        """An error with its traceback; that a watcher has vanished is none."""
        if isinstance(sys.exc_info()[1], TimeoutError):
            self.info("A client took nothing for too long")
        else:
            super().exception(msg, *args, **kwargs)


wsgi_app = "api:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "deploy.patience.PatientWorker"
# A watcher keeps a thread, but not one of those that other requests need (api.requests.Turns).
threads = WEB_THREADS + _settings.watchers_max
# Connections that wait need no thread, but a file each.
_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
_files = 65_536 if _files == resource.RLIM_INFINITY else min(_files, 65_536)
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
worker_connections = max(threads + 100, min(10_000, _files - threads - 500))
graceful_timeout = int(_settings.shutdown_grace_seconds)
timeout = 60
keepalive = 30
limit_request_line = 8190
util.write_error = refusals.write_error
control_socket_disable = True
# What proxies say is ours to judge (TRUSTED_PROXIES); by itself gunicorn would believe whoever calls from this machine.
forwarded_allow_ips = ""
forwarder_headers = ""
# gunicorn alone would take this from the environment, deploy.wire would not.
raw_env = ["SCRIPT_NAME="]
# The heartbeat file of a web process must not be on a disk that can be slow or full.
_memory = Path("/dev/shm")  # noqa: S108
worker_tmp_dir = str(_memory) if _memory.is_dir() else None
# Our own request lines say more.
accesslog = None
logger_class = _Logger


def pre_fork(server, worker):
    """What the server has loaded stays memory that all share: a web process that collects would write to all of it."""
    gc.freeze()


def post_worker_init(worker):
    """Have watchers go as soon as the process is asked to end: they would stay for the whole grace period."""
    # What is there now stays; to go through it again and again would cost each request a little.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    hub = worker.wsgi.extensions["pressroom"].hub

    def before(handler):
        def stop(number, frame):
            hub.stop()
            handler(number, frame)

        return stop

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, before(signal.getsignal(number)))


def child_exit(server, worker):
    """A web process has ended."""
    forget_process(worker.pid)


def on_exit(server):
    """The timings end with the server."""
    shutil.rmtree(_metrics, ignore_errors=True)
