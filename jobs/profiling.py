"""Where an attempt spends its time: pyinstrument, for tasks submitted with `"profile": true`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyinstrument import Profiler

from jobs.handlers.context import Context

_FONTS = re.compile(r"https://fonts\.googleapis\.com[^\"']*")


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
        session = profiler.stop()
        session.target_description = f"task {context.task_id}, attempt {context.attempt}"
        # Nothing is to be loaded from elsewhere.
        context.profile_page = _FONTS.sub("data:text/css,", profiler.output_html())
