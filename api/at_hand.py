"""The request at hand, and what is kept about it, themselves.

`flask.request` and `flask.g` stand for them, and look them up anew each time that something is asked of them. Where
every request passes, that is a tenth of what it costs: such functions get what they need from here, once.
"""

from typing import Any, Final, cast

import flask
from flask import Request
from werkzeug.local import LocalProxy

the_request: Final = cast("LocalProxy[Request]", flask.request)._get_current_object
the_notes: Final = cast("LocalProxy[Any]", flask.g)._get_current_object
the_app: Final = cast("LocalProxy[flask.Flask]", flask.current_app)._get_current_object
