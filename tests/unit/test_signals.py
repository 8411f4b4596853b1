"""A scheduler ends when it is told to, whatever it is at when the signal comes."""

import random
import signal
import subprocess
import sys
import time

_START = """
import os, redis, signal, sys, threading, time
from scheduler.clock import Clock
clock = Clock(redis.Redis(), interval=1, name="c")
clock.stop_on_signals(grace={grace})
"""
# The clock waits for very short times all the while, so that many signals come as it takes or gives back a lock.
_MANY = """
over = threading.Thread(target=sys.stdin.read, daemon=True)
over.start()
print("ready", flush=True)
while over.is_alive():
    clock.wait(1e-5)
clock.wait(10)
print("stopping" if clock.stopping else "went on")
"""
_HANGS = """
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


def started(program: str, *, grace: float) -> "subprocess.Popen[str]":
    code = _START.format(grace=grace) + program
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_no_signal_comes_at_the_wrong_moment() -> None:
    with started(_MANY, grace=60) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            for _ in range(3_000):
                process.send_signal(random.choice((signal.SIGTERM, signal.SIGINT)))
                time.sleep(random.random() / 2_000)
            said, _ = process.communicate(timeout=15)
        finally:
            process.kill()
    assert (process.returncode, said) == (0, "stopping\n")


def test_a_step_that_hangs_does_not_keep_the_process() -> None:
    with started(_HANGS, grace=0.3) as process:
        try:
            assert process.wait(15) == 1
        finally:
            process.kill()
