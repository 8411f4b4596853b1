"""`make reference`: the pages in docs/http/, made from the OpenAPI document of a service without settings of its own."""

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from api import create_app
from jobs import settings

PLACE: Final = Path(__file__).parents[1] / "docs" / "http"
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_JSON: Final = "application/json"
_NOTE: Final = "<!-- Made by `make reference` from the OpenAPI document: change that. -->"
_SHAPES: Final = "shapes.md"

Document = Mapping[str, Any]


def pages(document: Document) -> dict[str, str]:
    """The text of each page, by its name."""
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    rows: dict[str, list[str]] = {name: [] for name in by_tag}
    for method, path, operation in _operations(document):
        (tag,) = operation["tags"]
        title = f"{method.upper()} {path}"
        by_tag[tag].append(_operation(document, title, operation))
        link = f"[`{title}`]({tag}.md#{_anchor(title)})"
        rows[tag].append(f"| {link} | {operation['summary']} | {_scope(operation)} |")
    found = {"README.md": _index(document, rows), _SHAPES: _shapes(document)}
    for tag in document["tags"]:
        head = f"# {tag['name'].capitalize()}\n\n{_NOTE}\n\n{tag['description']}. [All operations](README.md)."
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
        "The same, to try, is at `/docs` of a running service; the OpenAPI document is at `/openapi.json`. What the"
        f" fields of requests and answers are, is on [one page for all]({_SHAPES}).",
    ]
    for tag in document["tags"]:
        head = f"## {tag['name'].capitalize()}\n\n{tag['description']}.\n\n| call | what it does | scope |\n|---|---|---|"
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


def _way(scheme: Document) -> str:
    return f"`{scheme['name']}` ({scheme['in']})" if scheme["type"] == "apiKey" else f"HTTP {scheme['scheme']}"


def _headers(document: Document) -> dict[str, Any]:
    """Every header of an answer, by its name."""
    found: dict[str, Any] = {}
    for _, _, operation in _operations(document):
        for answer in operation["responses"].values():
            found |= _resolved(document, answer).get("headers", {})
    return dict(sorted(found.items()))


def _operation(document: Document, title: str, operation: Document) -> str:
    parts = [f"## {title}", f"{operation['summary']} {operation.get('description', '')}".strip()]
    parts.append(f"Scope: {_scope(operation)}.")
    parameters = [_resolved(document, parameter) for parameter in operation["parameters"]]
    if rows := [_parameter(one) for one in parameters if one["name"] != "X-Request-ID"]:
        parts.append("\n".join(["| parameter | in | type | meaning |\n|---|---|---|---|", *rows]))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {_kind(body['content'][_JSON]['schema'])}")
        parts += _examples(body)
    answers = {int(code): _resolved(document, answer) for code, answer in operation["responses"].items()}
    shared = {_resolved(document, answer)["description"] for answer in document["components"]["responses"].values()}
    for code, answer in answers.items():
        if code < 400:
            shape = "; ".join(
                f"`{media}`" if media != _JSON else _kind(content["schema"])
                for media, content in answer.get("content", {}).items()
            )
            parts.append(f"Answer {code}: {shape or 'nothing'}")
            parts += _examples(answer)
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


def _examples(message: Document) -> Iterator[str]:
    for media, content in message.get("content", {}).items():
        if media == _JSON:
            yield f"```json\n{orjson.dumps(content['example'], option=orjson.OPT_INDENT_2).decode()}\n```"


def _shapes(document: Document) -> str:
    """All schemas, with a table of fields each."""
    parts = [f"# Shapes\n\n{_NOTE}\n\nThe fields of requests and answers. [All operations](README.md)."]
    for name, shape in sorted(document["components"]["schemas"].items()):
        parts.append(f"## {name}\n\n{_cell(shape.get('description', ''))}".strip())
        if "properties" in shape:
            parts.append(_table(shape))
        for title, variant in _variants(shape):
            fields = [field for name, field in variant["properties"].items() if name in ("input", "params")]
            needed = ", ".join(f"`{name}`" for name in variant.get("required", ()))
            say = f"### {name}: {title}\n\n" + (f"Needs {needed}." if needed else "")
            parts += [say.strip(), *(_table(_resolved(document, field)) for field in fields)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _variants(shape: Document) -> Iterator[tuple[str, Document]]:
    """The forms that a body may have, of which each has a name."""
    for part in (shape, *shape.get("allOf", ())):
        for one in part.get("oneOf", ()):
            if "title" in one:
                yield one["title"], one


def _table(shape: Document) -> str:
    needed = set(shape.get("required", ()))
    rows = [
        f"| `{name}`{' (required)' if name in needed else ''} | {_kind(field)} | {_meaning(field)} |"
        for name, field in shape.get("properties", {}).items()
    ]
    return "\n".join(["| field | type | meaning |\n|---|---|---|", *rows]) if rows else "No fields."


def _kind(shape: Document) -> str:
    """A schema in words, short enough for a cell."""
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        return f"[{name}]({_SHAPES}#{_anchor(name)})"
    if choices := shape.get("enum"):
        return ", ".join(f"`{orjson.dumps(choice).decode()}`" for choice in choices)
    if "const" in shape:
        return f"`{orjson.dumps(shape['const']).decode()}`"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in shape and "type" not in shape:
            return " or ".join(dict.fromkeys(_kind(one) for one in shape[several]))
    types = shape.get("type", "any JSON")
    names = [types] if isinstance(types, str) else list(types)
    words = [f"list of {_kind(shape.get('items', {}))}" if name == "array" else name for name in names]
    return " or ".join(words) + _bounds(shape)


def _bounds(shape: Document) -> str:
    low, high = shape.get("minimum"), shape.get("maximum")
    said = []
    if low is not None and abs(low) < 2**62:
        said.append(f"from {low:g}")
    if "exclusiveMinimum" in shape:
        said.append(f"above {shape['exclusiveMinimum']:g}")
    if high is not None and abs(high) < 2**62:
        said.append(f"to {high:,}")
    most = shape.get("maxLength", shape.get("maxItems"))
    if most is not None:
        said.append(f"of up to {most:,}")
    return " " + " ".join(said) if said else ""


def _meaning(shape: Document, around: Document | None = None) -> str:
    said = [(around or {}).get("description", ""), shape.get("description", "")]
    words = " ".join(dict.fromkeys(filter(None, said)))
    if "default" in shape and shape["default"] is not None:
        words += f" Default: `{orjson.dumps(shape['default']).decode()}`."
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
