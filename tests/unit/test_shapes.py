"""One shape for tasks and batches, wherever they are shown."""

from api.schemas import BatchSchema, TaskSchema
from jobs.shapes import TASK_KEYS, shown_batch


def test_what_is_shown_of_a_task_is_what_the_document_says() -> None:
    assert tuple(TaskSchema().fields) == TASK_KEYS


def test_what_is_shown_of_a_batch_is_what_the_document_says() -> None:
    nothing = dict.fromkeys(("cancelled_at", "created_at", "completed_at", "callback_url"))
    batch = {"id": 1, "total": 0, **nothing}
    assert list(shown_batch(batch, [], [])) == list(BatchSchema().fields)
