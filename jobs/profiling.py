"""Where an attempt spends its time: pyinstrument, for tasks submitted with `"profile": true`."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyinstrument import Profiler

from jobs.handlers.context import Context


@contextmanager
def profiled(context: Context) -> Iterator[None]:
    """Profile the block when the task asked for it; the page is left in the context.

    https://pyinstrument.readthedocs.io/
    """
    if not context.facts.profile:
        yield
        return
    profiler = Profiler(async_mode="enabled")
    try:
        profiler.start()
    except RuntimeError as error:  # another one runs in this thread
        context.log.warning("not profiled", reason=str(error))
        yield
        return
    try:
        yield
    finally:
        profiler.stop()
        context.profile_page = profiler.output_html()
