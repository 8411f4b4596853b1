"""Flask and RQ: POST /tasks enqueues a job; with `insert` it is stored in PostgreSQL first."""

import psycopg.types.json
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from psycopg_pool import ConnectionPool
from rq import Queue

from tests.benchmarks.peers.driver import options
from tests.benchmarks.peers.rq_peer import connect

_INSERT = "INSERT INTO bench_tasks (prompt, model) VALUES (%s, %s) RETURNING id"
_TABLE = """CREATE TABLE IF NOT EXISTS bench_tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, prompt text NOT NULL, model text NOT NULL,
    status text NOT NULL DEFAULT 'PENDING', created_at timestamptz NOT NULL DEFAULT now())"""

app = Flask(__name__)
_queue = Queue("default", connection=connect())
_pool = ConnectionPool(options()["postgres"], min_size=4, max_size=16, open=bool(options()["insert"]))
if options()["insert"]:
    with psycopg.connect(options()["postgres"], autocommit=True) as _connection:
        _connection.execute("SELECT pg_advisory_lock(1)")  # two processes begin at once
        _connection.execute(_TABLE)


@app.post("/tasks")
def create() -> ResponseReturnValue:
    """Take a task."""
    wanted = request.get_json()
    task_id = None
    if options()["insert"]:
        with _pool.connection() as connection:
            row = connection.execute(_INSERT, (wanted["prompt"], wanted["model"])).fetchone()
            task_id = row and row[0]
    job = _queue.enqueue("tests.benchmarks.peers.rq_peer.noop", wanted["prompt"], wanted["model"])
    return jsonify({"id": task_id or job.id, "status": "PENDING"}), 201
