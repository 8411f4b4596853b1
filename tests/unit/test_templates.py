"""Parents' results in a child's texts: useful, and harmless."""

from typing import Any

import pytest

from jobs import templates
from jobs.errors import AttemptError

PARENTS: list[dict[str, Any]] = [
    {"id": 1, "result": {"text": "first", "tags": ["a", "b"], "n": 3}},
    {"id": 2, "result": {"text": 'zweite "zeile"', "none": None}},
]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Sum up: {{ parents[0].result.text }}", "Sum up: first"),
        ("{{ parents[0].result.tags | join(', ') }}", "a, b"),
        ("{% for p in parents %}{{ loop.index }}. {{ p.result.text }}\n{% endfor %}", '1. first\n2. zweite "zeile"\n'),
        ("{{ parents | map(attribute='id') | join('+') }}", "1+2"),
        ("{{ parents[1].result | tojson }}", '{"text":"zweite \\"zeile\\"","none":null}'),
        ("{% if parents[0].result.n > 2 %}many{% else %}few{% endif %}", "many"),
        ("{{ parents[0].result.missing | default('nothing') }}", "nothing"),
        ("{{ parents[-1].result.text | upper | truncate(6, true, '') }}", "ZWEITE"),
        ("no template { here }", "no template { here }"),
        ("用 {{ parents|length }} 个", "用 2 个"),
    ],
)
def test_results_are_filled_in(text: str, filled: str) -> None:
    templates.check(text)
    assert templates.fill(text, PARENTS, "prompt") == filled


def test_every_text_in_an_input_is_filled_in() -> None:
    given = {"text": "{{ parents[0].id }}", "list": ["{{ parents[1].id }}", 5], "deep": {"a": True, "b": None}}
    assert templates.fill(given, PARENTS, "input") == {"text": "1", "list": ["2", 5], "deep": {"a": True, "b": None}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ parents[5].result.text }}", "prompt cannot be filled in"),
        ("{{ parents[0].result.missing }}", "missing"),
        ("{{ parents[0].result.n | join }}", "prompt"),
    ],
)
def test_what_the_parents_have_not_is_a_clear_error(text: str, said: str) -> None:
    with pytest.raises(AttemptError) as caught:
        templates.fill(text, PARENTS, "prompt")
    assert (caught.value.error.code, caught.value.error.retryable) == ("template_error", False)
    assert said in caught.value.error.message


@pytest.mark.parametrize(
    "text",
    [
        "{{ parents[0].result.text",
        "{% for a in parents %}",
        "{{ parents.__class__.__mro__ | foo }}",
        "{{ cycler() }}",
        "{{ parents[0].result.text.upper() }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 1 | round(-16000000) }}",
        "{% for a in parents %}{% endfor %}" * 11,
        "{% set x = 1 %}",
        "{% macro m() %}{% endmacro %}",
        "{% include 'x' %}",
        "{% for a in parents %}{% for b in parents %}x{% endfor %}{% endfor %}",
        "{% for a in parents recursive %}x{% endfor %}",
        "{{ 'a' | replace('a', 'aa') }}",
        "{{ 'x' | tojson | tojson | tojson | tojson | tojson | tojson }}",
        "{{ " + "(" * 200 + "1" + ")" * 200 + " }}",
        "{{ " + "[" * 900 + "]" * 900 + " }}",
        "{{ " + "not " * 900 + "1 }}",
        "{% if 1 %}" * 150 + "{% endif %}" * 150,
        "{{ parents" + "[0]" * 3000 + " }}",
        "{{ parents[0].result.text }}" * 3500,
    ],
)
def test_what_could_do_harm_is_refused_at_submission(text: str) -> None:
    with pytest.raises(templates.TemplateProblem):
        templates.check({"some": ["text", text]})


@pytest.mark.parametrize(
    "text",
    [
        "{{ parents.__class__.__mro__ }}",
        "{{ parents[0].result.text.format }}",
        "{{ parents[0].result.items }}",
        "{{ parents | map(attribute='keys') | join }}",
        "{{ parents | join(attribute='keys') }}",
    ],
)
def test_what_values_have_besides_their_content_is_out_of_reach(text: str) -> None:
    with pytest.raises(AttemptError):
        templates.fill(text, PARENTS, "prompt")


def test_keys_may_be_named_like_methods() -> None:
    parents = [{"result": {"items": [1, 2], "keys": {"get": "found"}}}]
    text = "{% for item in parents[0].result.items %}{{ loop.index }}{{ item }} {% endfor %}"
    assert templates.fill(text + "{{ parents[0].result.keys.get }}", parents, "prompt") == "11 22 found"


def test_no_text_keeps_a_worker_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "_MOST_SECONDS", 0.1)
    text = "{% for c in parents[0].result.text %}{% if parents | tojson | length == 1 %}x{% endif %}{% endfor %}"
    with pytest.raises(AttemptError, match="takes too long"):
        templates.fill(text, [{"result": {"text": "x" * 1_000_000}}], "prompt")
    assert templates.fill("{{ parents | tojson }}", [], "prompt") == "[]"


@pytest.mark.parametrize(
    "text",
    [
        "{% for c in parents[0].result.text %}{{ parents[0].result.text }}{% endfor %}",
        "{{ parents[0].result.text | join(parents[0].result.text) }}",
        "{% if parents[0].result.quotes | tojson | tojson | tojson | tojson %}{% endif %}",
        "{{ parents[0].result.text | map('replace', 'x', 'xx') | join }}",
    ],
)
def test_no_text_grows_without_bounds(text: str) -> None:
    with pytest.raises(AttemptError) as caught:
        templates.fill(text, [{"result": {"text": "x" * 100_000, "quotes": '"' * 100_000}}], "prompt")
    assert caught.value.error.code == "template_error"
