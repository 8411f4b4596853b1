"""Posts to real receivers on loopback: where they may go, and what is said of them."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from jobs.webhooks import sender as module
from jobs.webhooks.guard import Networks
from jobs.webhooks.sender import Answer, Sender
from tests.support.receiver import Receiver

LOOPBACK: Networks = (ip_network("127.0.0.1/32"),)


class TestSender:
    """Real connections, to a receiver on loopback."""

    @pytest.fixture
    def receiver(self) -> Receiver:
        return Receiver()

    @pytest.fixture
    def url(self, receiver: Receiver) -> Iterator[str]:
        with receiver.serving() as url:
            yield url

    def post(self, url: str, allowed: Networks = LOOPBACK, **options: Any) -> Answer:
        async def once() -> Answer:
            sender = Sender.to_others(allowed)
            try:
                return await sender.post(url, b'{"a": 1}', {"webhook-id": "m"}, **options)
            finally:
                await sender.aclose()

        return asyncio.run(once())

    def test_what_is_posted_arrives(self, receiver: Receiver, url: str) -> None:
        answer = self.post(f"{url}/hook?token=t")
        assert (answer.status_code, answer.error) == (200, None)
        (got,) = receiver.got
        assert (got.path, got.body, got.headers["webhook-id"]) == ("/hook?token=t", b'{"a": 1}', "m")
        assert got.headers["content-type"] == "application/json"

    def test_credentials_in_the_url_are_sent_as_basic_auth(self, receiver: Receiver, url: str) -> None:
        assert self.post(url.replace("://", "://user:pass@")).is_success
        assert receiver.got[0].headers["authorization"] == "Basic dXNlcjpwYXNz"

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "0x7f000001", "[::ffff:127.0.0.1]", "①②⑦.0.0.1", "127.0.0.1."]
    )
    def test_no_connection_is_made_to_addresses_that_are_not_allowed(
        self, host: str, receiver: Receiver, url: str
    ) -> None:
        answer = self.post(url.replace("127.0.0.1", host), allowed=())
        assert answer.status_code is None
        assert answer.error
        assert receiver.got == []

    def test_a_name_is_checked_by_the_address_that_is_connected_to(
        self, receiver: Receiver, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name server that says something else when it is asked again gains nothing."""
        looked_up: list[str] = []

        def rebinding(host: str, port: int, *_: Any) -> list[Any]:
            looked_up.append(host)
            address = "127.0.0.2" if len(looked_up) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        port = url.rpartition(":")[2]
        answer = self.post(f"http://rebinding.example:{port}/", allowed=(ip_network("127.0.0.2/32"),))
        assert "cannot connect" in str(answer.error)
        assert looked_up == ["rebinding.example"]
        assert receiver.got == []

    def test_redirects_are_followed_as_posts_a_few_times(self, receiver: Receiver, url: str) -> None:
        receiver.script.extend([(307, {"Location": "/second"}), (301, {"Location": f"{url}/third"})])
        assert self.post(f"{url}/first").status_code == 200
        assert [got.path for got in receiver.got] == ["/first", "/second", "/third"]
        assert {got.body for got in receiver.got} == {b'{"a": 1}'}

    def test_redirects_without_end_fail(self, receiver: Receiver, url: str) -> None:
        receiver.script.extend([(308, {"Location": "/again"})] * 10)
        assert self.post(url).error == "redirected too often"
        assert len(receiver.got) == 4

    @pytest.mark.parametrize(
        "target", ["http://127.0.0.2:{port}/", "http://[::1]:{port}/", "http://0x7f000002:{port}/"]
    )
    def test_a_redirect_to_an_address_that_is_not_allowed_is_refused(
        self, target: str, receiver: Receiver, url: str
    ) -> None:
        receiver.script.append((307, {"Location": target.format(port=url.rpartition(":")[2])}))
        assert self.post(url).error == "callbacks may not go to its address (see CALLBACK_ALLOWED_NETWORKS)"
        assert len(receiver.got) == 1

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", "javascript:1", "http://["])
    def test_a_redirect_to_something_else_than_http_fails(self, target: str, receiver: Receiver, url: str) -> None:
        receiver.script.append((307, {"Location": target}))
        assert self.post(url).error
        assert len(receiver.got) == 1

    def test_a_receiver_that_hangs_is_given_up(
        self, receiver: Receiver, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
        receiver.usual = 0
        assert "no answer within" in str(self.post(url).error)

    @pytest.mark.parametrize(
        "url",
        [
            "http://user:verysecret@127.0.0.1:1/verysecret?token=verysecret",
            "http://nowhere.invalid/verysecret",
            "http://[verysecret/",
            "verysecret",
            "https://127.0.0.1:1/verysecret",
        ],
    )
    def test_errors_say_nothing_of_the_url(self, url: str) -> None:
        answer = self.post(url)
        assert answer.error
        assert "verysecret" not in answer.error

    def test_the_time_to_wait_is_passed_on_and_the_body_kept_on_request(self, receiver: Receiver, url: str) -> None:
        receiver.script.append((503, {"Retry-After": "7"}))
        receiver.answer = b"x" * 1000
        answer = self.post(url, keep=10)
        assert (answer.status_code, answer.retry_after, answer.content) == (503, 7.0, b"x" * 10)
