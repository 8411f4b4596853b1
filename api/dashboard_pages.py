"""rq-dashboard's pages without what a strict Content-Security-Policy forbids.

They carry their scripts and some styles inline, and compile templates in the browser, which needs `unsafe-eval`, and
insert what they are given unescaped. Their sources are changed as Jinja loads them: scripts get the answer's nonce,
styles become classes (static/dashboard.css), and templates become functions here that escape every value.
"""

import re
from re import Match
from typing import Final

import orjson
from jinja2.ext import Extension

_OURS: Final = """<link rel="stylesheet" href="{{ url_for('static', filename='dashboard.css') }}">
</head>"""
_BEFORE_SCRIPTS: Final = """<script src="{{ url_for('static', filename='dashboard.js') }}"></script>
        <script nonce="{{ csp_nonce() }}">"""
_TEMPLATE: Final = re.compile(r'<script name="([a-z-]+)" type="text/template">(.*?)</script>', re.DOTALL)
_TAG: Final = re.compile(r"<%([=-]?)(.*?)%>", re.DOTALL)
_STYLE: Final = re.compile(r'style="([^"]*)"')
# It escapes these by itself; twice would be seen.
_ESCAPED: Final = re.compile(r"^\$\('<div/>'\)\.text\((.*)\)\.html\(\)$")
_JINJA: Final = re.compile(r"({%.*?%})", re.DOTALL)
_CLASSES: Final = {
    "display: none": "rq-hidden",
    "float: right": "rq-right",
    "float: right; margin-right: 8px;": "rq-right",
    "text-align: center;": "text-center",
    "": "",
}


class StrictPages(Extension):
    """Changes rq-dashboard's templates, and no others."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The source that Jinja compiles."""
        if not name or not (name.startswith("rq_dashboard/") and name.endswith(".html")):
            return source
        source = source.replace('<script type="text/javascript">', _BEFORE_SCRIPTS).replace("</head>", _OURS)
        source = _TEMPLATE.sub(_compiled, source)
        return _without_styles(source)


def _without_styles(source: str) -> str:
    """Inline styles as classes; an element that has a class already gets another."""

    def element(match: Match[str]) -> str:
        tag = match[0]
        if not (style := _STYLE.search(tag)):
            return tag
        tag = tag.replace(style[0], "")
        extra = _CLASSES[style[1]]
        if 'class="' in tag:
            return tag.replace('class="', f'class="{extra} ', 1)
        return re.sub(r"^<(\w+)", rf'<\1 class="{extra}"', tag)

    return re.sub(r"<[a-z]+\s[^<>]*>", element, source)


def _compiled(match: Match[str]) -> str:
    """The template's element, holding just its name, and the function that stands for it."""
    name, source = match.groups()
    if "<%" not in source:
        return match[0]
    body, place = [], 0
    for tag in _TAG.finditer(source):
        body.append(_text(source[place : tag.start()]))
        place = tag.end()
        kind, code = tag[1], tag[2].strip()
        escaped = _ESCAPED.match(code)
        body.append(f"out += rqEscape({escaped[1] if escaped else code});" if kind else code)
    body.append(_text(source[place:]))
    function = 'function (facts) { var out = ""; with (facts) { ' + "\n".join(body) + " } return out; }"
    return (
        f'<script name="{name}" type="text/template">{name}</script>\n'
        f'<script nonce="{{{{ csp_nonce() }}}}">(window.rqTemplates ||= {{}})["{name}"] = {function};</script>'
    )


def _text(text: str) -> str:
    """Adds a piece of text; what Jinja has to say in it stays as it is."""
    pieces = [
        piece if piece.startswith("{%") else f"out += {orjson.dumps(piece).decode()};"
        for piece in _JINJA.split(text)
        if piece
    ]
    return "\n".join(pieces)
