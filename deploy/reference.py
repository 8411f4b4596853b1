"""`make reference`: the pages in docs/http/, from the OpenAPI document of a service without settings of its own."""

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from api import create_app
from jobs import settings

PLACE: Final = Path(__file__).parents[1] / "docs" / "http"
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_JSON: Final = "application/json"
_NOTE: Final = "<!-- Made by `make reference` from the OpenAPI document: change that. -->"
_SHAPES: Final = "shapes.md"
_WIDTH: Final = 118
_ENDLESS: Final = 2**62

Document = Mapping[str, Any]


def pages(document: Document) -> dict[str, str]:
    """The text of each page, by its name."""
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    rows: dict[str, list[str]] = {name: [] for name in by_tag}
    shown: dict[str, set[str]] = {name: set() for name in by_tag}
    for method, path, operation in _operations(document):
        (tag,) = operation["tags"]
        title = f"{method.upper()} {path}"
        by_tag[tag].append(_operation(document, title, operation, shown[tag]))
        link = f"[`{title}`]({tag}.md#{_anchor(title)})"
        rows[tag].append(f"| {link} | {operation['summary']} | {_scope(operation)} |")
    found = {"README.md": _index(document, rows), _SHAPES: _shapes(document)}
    for tag in document["tags"]:
        head = f"# {_title(tag)}\n\n{_NOTE}\n\n{tag['description']}. [All operations](README.md)."
        found[f"{tag['name']}.md"] = "\n\n".join([head, *by_tag[tag["name"]]]) + "\n"
    return found


def _operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                shared = item.get("parameters", [])
                yield method, path, {**item[method], "parameters": [*shared, *item[method]["parameters"]]}


def _index(document: Document, rows: Mapping[str, list[str]]) -> str:
    parts = [
        f"# HTTP reference\n\n{_NOTE}\n\n{document['info']['description']}",
        "The same, to try, is at `/docs` of a running service; the OpenAPI document is at `/openapi.json`.",
        f"What the fields of requests and answers are, is on [one page for all]({_SHAPES}).",
    ]
    for tag in document["tags"]:
        head = f"## {_title(tag)}\n\n{tag['description']}.\n\n| call | what it does | scope |\n|---|---|---|"
        parts.append("\n".join([head, *rows[tag["name"]]]))
    keys = [
        f"| {_way(scheme)} | {_cell(scheme['description'])} |"
        for scheme in document["components"]["securitySchemes"].values()
    ]
    parts.append("\n".join(["## Keys\n\nOne of these, once there are keys:\n\n| how | what |\n|---|---|", *keys]))
    errors = sorted(
        (answer["content"][_JSON]["example"]["code"], answer["description"])
        for answer in document["components"]["responses"].values()
        if _JSON in answer.get("content", {}) and "example" in answer["content"][_JSON]
    )
    table = [f"| {code} | {_cell(said)} |" for code, said in errors]
    parts.append("\n".join(["## Errors that many calls share\n\n| status | meaning |\n|---|---|", *table]))
    headers = [
        f"| `{name}` | {_cell(_resolved(document, header)['description'])} |"
        for name, header in _headers(document).items()
    ]
    parts.append("\n".join(["## Headers of answers\n\n| header | meaning |\n|---|---|", *headers]))
    return "\n\n".join(parts) + "\n"


def _title(tag: Document) -> str:
    return str(tag["name"].replace("_", " ").capitalize())


def _way(scheme: Document) -> str:
    return f"`{scheme['name']}` ({scheme['in']})" if scheme["type"] == "apiKey" else f"HTTP {scheme['scheme']}"


def _headers(document: Document) -> dict[str, Any]:
    """Every header of an answer, by its name."""
    found: dict[str, Any] = {}
    for _, _, operation in _operations(document):
        for answer in operation["responses"].values():
            found |= _resolved(document, answer).get("headers", {})
    return dict(sorted(found.items()))


def _operation(document: Document, title: str, operation: Document, shown: set[str]) -> str:
    """One operation; `shown` are the examples that its page has already."""
    parts = [f"## {title}", f"{operation['summary']} {operation.get('description', '')}".strip()]
    parts.append(f"Scope: {_scope(operation)}.")
    parameters = [_resolved(document, parameter) for parameter in operation["parameters"]]
    if rows := [_parameter(one) for one in parameters if one["name"] != "X-Request-ID"]:
        parts.append("\n".join(["| parameter | in | type | meaning |\n|---|---|---|---|", *rows]))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {_kind(body['content'][_JSON]['schema'])}")
        parts += _examples(body, shown)
    answers = {int(code): _resolved(document, answer) for code, answer in operation["responses"].items()}
    shared = {_resolved(document, answer)["description"] for answer in document["components"]["responses"].values()}
    for code, answer in answers.items():
        if code < 400:
            shape = "; ".join(
                f"`{media}`" if media != _JSON else _kind(content["schema"])
                for media, content in answer.get("content", {}).items()
            )
            parts.append(f"Answer {code}: {shape or 'nothing'}")
            parts += _examples(answer, shown)
    errors = [
        str(code) if answer["description"] in shared else f"{code} ({_cell(answer['description'])})"
        for code, answer in answers.items()
        if code >= 400
    ]
    parts.append(f"Errors: {', '.join(errors)}.")
    return "\n\n".join(parts)


def _scope(operation: Document) -> str:
    scopes = [scope for one in operation["security"] for allowed in one.values() for scope in allowed]
    return f"`{scopes[0]}`" if scopes else "none: no key is needed"


def _parameter(parameter: Document) -> str:
    name = f"`{parameter['name']}`"
    return f"| {name} | {parameter['in']} | {_kind(parameter['schema'])} | {_meaning(parameter['schema'], parameter)} |"


def _examples(message: Document, shown: set[str]) -> Iterator[str]:
    content = message.get("content", {}).get(_JSON, {})
    if "example" in content and (text := _laid_out(content["example"])) not in shown:
        shown.add(text)
        yield f"```json\n{text}\n```"


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON on one line where it fits, else as many members on a line as do."""
    whole = json.dumps(value, ensure_ascii=False)
    if len(indent + whole) <= _WIDTH or not isinstance(value, dict | list):
        return whole
    inner = indent + "  "
    if isinstance(value, dict):
        members = [f"{json.dumps(name)}: {_laid_out(member, inner)}" for name, member in value.items()]
    else:
        members = [_laid_out(member, inner) for member in value]
    lines = [inner + members[0]]
    for member in members[1:]:
        if len(lines[-1] + member) + 3 > _WIDTH or "\n" in lines[-1] + member:
            lines[-1] += ","
            lines.append(inner + member)
        else:
            lines[-1] += f", {member}"
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opened, *lines, indent + closed])


def _shapes(document: Document) -> str:
    """All schemas, with a table of fields each."""
    parts = [f"# Shapes\n\n{_NOTE}\n\nThe fields of requests and answers. [All operations](README.md)."]
    for name, shape in sorted(document["components"]["schemas"].items()):
        parts.append(f"## {name}\n\n{_cell(shape.get('description', ''))}".strip())
        if "properties" in shape:
            parts.append(_table(shape))
        if rows := list(_variants(shape)):
            parts.append("\n".join(["| `task_type` | takes | needs |\n|---|---|---|", *rows]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _variants(shape: Document) -> Iterator[str]:
    """What a task of each type, or a schedule of each executor, takes."""
    for one in (one for part in (shape, *shape.get("allOf", ())) for one in part.get("oneOf", ())):
        for field in ("input", "params"):
            if taken := one.get("properties", {}).get(field):
                needed = ", ".join(f"`{name}`" for name in one["required"])
                yield f"| `{one['title']}` | `{field}`: {_kind(taken)} | {needed} |"


def _table(shape: Document) -> str:
    needed = set(shape.get("required", ()))
    needed = set() if needed == shape["properties"].keys() else needed  # an answer has all its fields
    rows = [
        f"| `{name}`{' (required)' if name in needed else ''} | {_kind(field)} | {_meaning(field)} |"
        for name, field in shape["properties"].items()
    ]
    return "\n".join(["| field | type | meaning |\n|---|---|---|", *rows])


def _kind(shape: Document) -> str:
    """A schema in words, short enough for a cell."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}]({_SHAPES}#{_anchor(name)})"
    if choices := shape.get("enum"):
        return ", ".join(dict.fromkeys(f"`{json.dumps(choice)}`" for choice in choices))
    if "const" in shape:
        return f"`{json.dumps(shape['const'])}`"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in shape and "type" not in shape:
            return " or ".join(dict.fromkeys(_kind(one) for one in shape[several]))
    types = shape.get("type", "any JSON")
    names = [types] if isinstance(types, str) else list(types)
    words = [name + _bounds(shape) for name in names if name not in ("array", "null")]
    if "array" in names:
        words.append(f"list{_bounds(shape)} of {_kind(shape.get('items', {}))}")
    return " or ".join([*words, *(name for name in names if name == "null")])


def _bounds(shape: Document) -> str:
    least = shape.get("minimum", -_ENDLESS)
    most = shape.get("maximum", shape.get("maxLength", shape.get("maxItems", _ENDLESS)))
    said = [shape["format"]] if "format" in shape else []
    if "exclusiveMinimum" in shape:
        said.append(f"above {shape['exclusiveMinimum']:,.10g}")
    elif least > -_ENDLESS:
        said.append(f"from {least:,.10g}")
    if most < _ENDLESS:
        said.append(f"up to {most:,.10g}")
    return f" ({' '.join(said)})" if said else ""


def _meaning(shape: Document, around: Document | None = None) -> str:
    said = [(around or {}).get("description", ""), shape.get("description", "")]
    words = " ".join(dict.fromkeys(filter(None, said)))
    if "default" in shape and shape["default"] is not None:
        words += f" Default: `{json.dumps(shape['default'])}`."
    return _cell(words.strip())


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _anchor(title: str) -> str:
    """As GitHub makes it from a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _resolved(document: Document, part: Document) -> Document:
    while "$ref" in part:
        _, kind, name = part["$ref"].removeprefix("#/").split("/")
        part = document["components"][kind][name]
    return part


def main() -> int:
    """Write the pages, into docs/http/ or the directory that is named."""
    place = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else PLACE
    with tempfile.TemporaryDirectory() as elsewhere, contextlib.chdir(elsewhere):  # no .env, no servers
        app = create_app(settings.load())
        document = app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
        app.extensions["pressroom"].database.close()
    place.mkdir(exist_ok=True)
    for name, text in pages(document).items():
        (place / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
