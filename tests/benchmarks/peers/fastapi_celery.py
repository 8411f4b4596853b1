"""FastAPI and Celery: POST /tasks sends a task from the event loop: quicker here than from a thread for each."""

from fastapi import FastAPI
from pydantic import BaseModel

from tests.benchmarks.peers.celery_peer import noop

app = FastAPI()


class NewTask(BaseModel):
    """What is asked for."""

    prompt: str
    model: str


@app.post("/tasks", status_code=201)
async def create(wanted: NewTask) -> dict[str, str]:
    """Take a task."""
    return {"id": noop.delay(wanted.prompt, wanted.model).id, "status": "PENDING"}
