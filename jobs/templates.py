"""Parents' results in a child's prompt and input: `{{ parents[0].result.text }}`.

A small part of Jinja: reading, conditions, filters and loops that are not nested; a text somebody submitted must not
be able to keep a worker busy, or reach anything but the results.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, Final

import orjson
from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jobs.errors import AttemptError, TaskError

_NODES: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Slice, nodes.Filter, nodes.Test, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And,
    nodes.Or, nodes.Not, nodes.Neg, nodes.For, nodes.Keyword,
)  # fmt: skip
_FILTERS: Final = (
    "capitalize", "count", "default", "first", "float", "int", "join", "last", "length", "lower", "map", "string",
    "title", "tojson", "trim", "truncate", "upper",
)  # fmt: skip
_MOST_FILTERS: Final = 5  # one on another: some let a text grow each time
_MOST_NODES: Final = 1000  # parts of all templates of a task: some hundred expressions
_MOST_LOOPS: Final = 10
_LONGEST: Final = 1_000_000  # characters that one text may become
_MOST_SECONDS: Final = 2.0  # of the processor's time, for filling in one text


class TemplateProblem(ValueError):
    """A text is not a template that may be used; says why."""


class _Time(threading.local):
    """How long this thread may still go on filling in."""

    until = float("inf")

    def check(self) -> None:
        if time.thread_time() > self.until:
            raise TemplateProblem("It takes too long.")


_time = _Time()


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that ends when the time is over: in a loop over a long text, it may be called very often."""

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        _time.check()
        return function(*args, **kwargs)

    return timed


class _Environment(ImmutableSandboxedEnvironment):
    """Reads what the results hold, and nothing that their values have besides: `.items` is a key, not a method."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`; loops have `index`, `last`..."""
        return super().getattr(obj, attribute) if isinstance(obj, LoopContext) else self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`."""
        _time.check()
        try:
            return obj[argument]
        except (TypeError, LookupError, ValueError):
            return self.undefined(obj=obj, name=argument)


_environment = _Environment(undefined=StrictUndefined, autoescape=False)
_environment.globals.clear()
# `map` finds filters here, too.
_environment.filters = {name: _environment.filters[name] for name in _FILTERS}


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    """Jinja's `join`, but for what would become too long."""
    parts = [_environment.getattr(value, attribute) if attribute else value for value in values]
    texts = [str(part) for part in parts]
    if sum(map(len, texts)) + len(separator) * len(texts) > _LONGEST:
        raise TemplateProblem(f"It becomes longer than {_LONGEST} characters.")
    return separator.join(texts)


def _tojson(value: Any) -> str:
    """Jinja's own is for HTML pages. A text grows by it, and more when that is done again."""
    text = orjson.dumps(value).decode()
    if isinstance(value, str) and len(text) > _LONGEST:
        raise TemplateProblem(f"It becomes longer than {_LONGEST} characters.")
    return text


_environment.filters |= {"join": _join, "tojson": _tojson}
_environment.filters = {name: _timed(function) for name, function in _environment.filters.items()}


def check(value: Any) -> None:
    """See whether all texts in a JSON value may be filled in.

    Raises:
        TemplateProblem: one is not well-formed, or uses what is not allowed; or all together are too much.
    """
    size = 0
    for text in texts(value):
        if is_template(text):
            size += _compiled(text)[1]
        if size > _MOST_NODES:
            raise TemplateProblem("There is more to fill in than a template may have.")


def is_template(text: str) -> bool:
    """Whether there may be something to fill in."""
    return "{{" in text or "{%" in text or "{#" in text


@lru_cache(maxsize=256)
def _compiled(text: str) -> tuple[Template, int]:
    """A text's template, and how much it is; raises like `check`. Many tasks may have the same one."""
    try:
        tree = _environment.parse(text)
        size = sum(1 for _ in tree.find_all(nodes.Node))
        if size > _MOST_NODES:
            raise TemplateProblem("There is more to fill in than a template may have.")
        if sum(1 for _ in tree.find_all(nodes.For)) > _MOST_LOOPS:
            raise TemplateProblem(f"There are more than {_MOST_LOOPS} loops.")
        _check(tree, loops=0, filters=0)
        return _environment.from_string(tree), size
    except (TemplateError, SyntaxError) as error:
        raise TemplateProblem(f"Not a valid template: {error}") from None
    except RecursionError:
        raise TemplateProblem("Not a valid template: it is nested too deeply.") from None


def _check(node: nodes.Node, loops: int, filters: int) -> None:
    if not isinstance(node, _NODES):
        raise TemplateProblem(f"Templates may not use {type(node).__name__.lower()}.")
    if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
        raise TemplateProblem(f"There is no filter {node.name!r}; there are: {', '.join(_FILTERS)}.")
    filters += isinstance(node, nodes.Filter)
    if filters > _MOST_FILTERS:
        raise TemplateProblem(f"More than {_MOST_FILTERS} filters one on another.")
    if isinstance(node, nodes.For):
        loops += 1
        if loops > 1 or node.recursive:
            raise TemplateProblem("Loops may not be nested.")
    for child in node.iter_child_nodes():
        _check(child, loops, filters)


def texts(value: Any) -> list[str]:
    """Every text within a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


def fill(value: Any, parents: Sequence[Mapping[str, Any]], where: str) -> Any:
    """A JSON value with all templates in its texts filled in.

    Args:
        where: its name in messages.

    Raises:
        AttemptError: template_error: the parents have not what the template reads.
    """
    if isinstance(value, str):
        return _fill(value, parents, where) if is_template(value) else value
    if isinstance(value, dict):
        return {key: fill(item, parents, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, parents, f"{where}[{place}]") for place, item in enumerate(value)]
    return value


def _fill(text: str, parents: Sequence[Mapping[str, Any]], where: str) -> str:
    _time.until = time.thread_time() + _MOST_SECONDS
    try:
        parts: list[str] = []
        room = _LONGEST
        for part in _compiled(text)[0].generate(parents=parents):
            room -= len(part)
            if room < 0:
                raise TemplateProblem(f"It becomes longer than {_LONGEST} characters.")
            parts.append(part)
        return "".join(parts)
    # Filters raise whatever their arguments make them raise.
    except Exception as error:  # noqa: BLE001
        message = f"{where} cannot be filled in from the parents' results: {error}"
        raise AttemptError(TaskError("template_error", message)) from None
    finally:
        _time.until = float("inf")
