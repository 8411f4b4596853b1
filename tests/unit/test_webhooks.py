"""What goes out is signed as the standard says, and only to where it may."""

import socket
import time
from ipaddress import ip_network

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.callbacks import POLICY, judge
from jobs.retry import RetryPolicy
from jobs.webhooks.guard import Networks, is_allowed, literal
from jobs.webhooks.sender import Answer
from jobs.webhooks.signing import key_of, new_secret, signed_headers


class TestSigning:
    def test_an_independent_implementation_accepts_it_and_nothing_else(self) -> None:
        secret, body = new_secret(), '{"type": "task.completed", "data": "值"}'.encode()
        headers = signed_headers(key_of(secret), "msg_1", int(time.time()), body)
        assert Webhook(secret).verify(body, headers)["data"] == "值"
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body + b" ", headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, {**headers, "webhook-id": "msg_2"})
        with pytest.raises(WebhookVerificationError):
            Webhook(new_secret()).verify(body, headers)

    @pytest.mark.parametrize(
        "secret", ["", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )
    def test_a_secret_of_another_shape_is_refused(self, secret: str) -> None:
        with pytest.raises(ValueError, match="whsec_"):
            key_of(secret)


class TestGuard:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
            "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1",
            "192.0.2.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
            "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1",
            "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1",
            "2002:7f00:1::", "3fff::1", "fec0::1", "100::1", "5f00::1",
        ],
    )  # fmt: skip
    def test_addresses_that_are_not_public_are_refused(self, address: str) -> None:
        assert not is_allowed(address, ())

    @pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
    def test_public_ones_are_not(self, address: str) -> None:
        assert is_allowed(address, ())

    def test_the_settings_may_allow_a_network_however_its_addresses_are_written(self) -> None:
        allowed: Networks = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
        assert is_allowed("10.1.2.3", allowed)
        assert is_allowed("::ffff:10.1.2.3", allowed)
        assert is_allowed("fd00::1", allowed)
        assert not is_allowed("10.2.0.1", allowed)

    @pytest.mark.parametrize(
        ("host", "address"),
        [
            ("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("2130706433", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"), ("0x7f.1", "127.0.0.1"), ("0177.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"), ("[::1]", "::1"), ("::ffff:7f00:1", "::ffff:127.0.0.1"),
            ("example.com", None), ("localhost", None), ("1.example", None), ("", None),
        ],
    )  # fmt: skip
    def test_literal_addresses_are_read_in_every_notation(self, host: str, address: str | None) -> None:
        found = literal(host)
        assert found == address or (found and address and socket.inet_pton(socket.AF_INET6, found))


class TestJudgement:
    ONCE = RetryPolicy("custom", delays=(1, 2), jitter=False)

    @pytest.mark.parametrize(
        ("answer", "tries", "status", "delay"),
        [
            (Answer(200, None, None, 0), 1, "DELIVERED", 0),
            (Answer(204, None, None, 0), 9, "DELIVERED", 0),
            (Answer(410, None, None, 0), 1, "FAILED", 0),
            (Answer(500, None, None, 0), 1, "PENDING", 1),
            (Answer(404, None, None, 0), 2, "PENDING", 2),
            (Answer(302, None, None, 0), 1, "PENDING", 1),
            (Answer(None, "cannot connect", None, 0), 3, "PENDING", 2),
            (Answer(429, None, 60.0, 0), 1, "PENDING", 60),
            (Answer(503, None, 0.5, 0), 1, "PENDING", 1),
        ],
    )
    def test_only_success_and_gone_are_final(self, answer: Answer, tries: int, status: str, delay: float) -> None:
        verdict = judge(answer, tries, self.ONCE, 0.9)
        assert (verdict.status, verdict.delay) == (status, delay)

    def test_the_pauses_grow_to_an_hour_and_have_jitter(self) -> None:
        failed = Answer(500, None, None, 0)
        pauses = [judge(failed, tries, POLICY, 0.0).delay for tries in range(1, 40)]
        assert pauses == sorted(pauses)
        assert (pauses[0], pauses[-1]) == (5, 3600)
        assert 12 < sum(1 for number in range(1, 40) if sum(pauses[:number]) < 86_400) < 40
        assert judge(failed, 3, POLICY, 0.99).delay > judge(failed, 3, POLICY, 0.0).delay
