"""Secrets are taken out of texts, wherever and however they stand in them; the rest stays."""

import json
import re

import pytest

from jobs.errors import TaskError
from jobs.secrets import Redactor

SECRET = 'p@ss/wörd "\\ 1'
KEY = "0123456789abcdefSECRET"


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"x={SECRET}&y",
        repr({"given": SECRET}),
        json.dumps({"given": SECRET}),
        json.dumps({"given": SECRET}, ensure_ascii=False),
        "at p%40ss%2Fw%C3%B6rd%20%22%5C%201 there",
        "at p%40ss/w%C3%B6rd%20%22%5C%201 there",
    ],
)
def test_what_is_known_is_hidden_however_it_is_written(text: str) -> None:
    redactor = Redactor()
    redactor.learn([SECRET])
    cleaned = redactor.clean(text)
    assert "[redacted]" in cleaned
    assert "rd" not in cleaned.replace("[redacted]", "").replace("there", "")


def test_a_secret_that_stands_encoded_in_a_url_is_known_decoded() -> None:
    redactor = Redactor()
    redactor.learn(["p%40ssw0rd"])
    assert redactor.clean("p@ssw0rd") == "[redacted]"


def test_short_secrets_are_hidden_where_they_stand_alone() -> None:
    redactor = Redactor()
    redactor.learn(["abc"])
    assert redactor.clean("abc 'abc' abcd") == "[redacted] '[redacted]' abcd"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {KEY}",
        f"authorization: Basic {KEY}==",
        f"Proxy-Authorization: Digest a={KEY}, b={KEY}",
        repr({"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}),
        repr([(b"Cookie", f"a={KEY}; b={KEY}".encode())]),
        f"Set-Cookie: session={KEY}; Path=/",
        f"X-API-Key: {KEY}",
        f"sent bearer {KEY} there",
        f"pr_ab12_{KEY}",
        f"sk-{KEY} and sk-proj-{KEY}",
        f"whsec_{KEY}",
        f"password={KEY} host=h",
        f"/path?token={KEY}&x=1",
        f"/path?a=1&api_key={KEY}",
        f"access_key={KEY}; secret='two words {KEY}'",
        json.dumps({"password": KEY, "client_secret": f"two words {KEY}"}),
        json.dumps({"said": json.dumps({"api-key": KEY})}),
        f"postgresql://user:{KEY}@host/db",
        f"https://{KEY}@host/path",
        f"redis://:{KEY}@host:6379/0",
        f"https://user:a@{KEY}@host/path",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    cleaned = Redactor().clean(text)
    assert KEY not in cleaned
    assert "[redacted]" in cleaned
    assert Redactor().clean(cleaned) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "Mail ada@example.com about https://example.com/a@b?x=1",
        "prompt_tokens: 5, max_tokens=100, key 7 of 9",
        "A valid API key is required.",
        "the basic authentication and bearer of news",
        '{"task_id": 5, "queue": "high", "unique_key": null}',
        "postgresql://host/db",
        "  CALLBACK_SECRET: Not whsec_ and the base64 of 24 to 64 bytes.",
        "Key number 1 is not name:secret:scope with a secret of 16 characters or more",
        "set API_KEYS (name:secret:scope), or make a key",
        "API_KEYS=name:secret:scope,...",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert Redactor().clean(text) == text


@pytest.mark.parametrize("text", ["secret:scope1", "secret:scope-a", "password=scope", "secret: Not-so", "token=Must"])
def test_what_only_begins_as_our_own_words_is_hidden(text: str) -> None:
    assert re.fullmatch(r"\w+[:=] ?\[redacted\]", Redactor().clean(text))


def test_errors_of_tasks_are_clean_from_the_beginning() -> None:
    assert TaskError("provider_error", f"it said sk-{KEY}").message == "it said sk-[redacted]"
