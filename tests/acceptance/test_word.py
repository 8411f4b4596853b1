"""Word goes out from real processes: callbacks to callers, alerts to operators."""

from pathlib import Path

from standardwebhooks import Webhook

from tests.support.instance import running
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_callers_and_operators_are_told_and_what_they_gave_is_not_logged(data_dir: Path) -> None:
    caller, operator = Receiver(), Receiver()
    with (
        caller.serving() as callback_url,
        operator.serving() as alert_url,
        running(
            data_dir,
            CALLBACK_SECRET=SECRET,
            CALLBACK_ALLOWED_NETWORKS="127.0.0.0/8",
            ALERT_WEBHOOK_URL=f"{alert_url}/services/verysecret",
            LLM_BASE_URL="http://127.0.0.1:1/v1",
            LOG_LEVEL="DEBUG",
        ) as instance,
    ):
        caller.script.append(500)
        task = instance.submit(callback_url=f"{callback_url}/hook?token=verysecret", max_retries=0)
        wait_until(lambda: len(caller.got) == 2, "the caller is told at the second try", 30)
        for got in caller.got:
            message = Webhook(SECRET).verify(got.body, got.headers)
            assert (message["type"], message["data"]) == ("task.failed", instance.task(task["id"]))
        wait_until(lambda: operator.got, "the operator is told", 30)
        assert operator.got[0].path == "/services/verysecret"
        assert operator.got[0].json["rule"] == "task_failed"
        assert str(task["id"]) in operator.got[0].json["message"]
        assert "verysecret" not in instance.log()
