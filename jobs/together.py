"""What several threads ask for at the same time, done in one go."""

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Wish(Generic[T, R]):
    __slots__ = ("error", "is_done", "item", "result", "turn")

    result: R

    def __init__(self, item: T) -> None:
        self.item = item
        self.error: Exception | None = None
        self.is_done = False
        self.turn = threading.Lock()
        self.turn.acquire()


class Together(Generic[T, R]):
    """Gathers the calls that come while an earlier one is at work, and has one of their threads do them all.

    Nobody waits for others to come: a call that finds nothing at work begins at once, in its own thread.
    """

    def __init__(self, do: Callable[[Sequence[T]], Sequence[R]], *, most: int, shared: type[Exception]) -> None:
        """`do` gives a result for each item, in order; `most`: items at once.

        When it raises `shared`, all of them fail so; after other errors each is tried alone and keeps its own.
        """
        self._do = do
        self._most = most
        self._shared = shared
        self._waiting: list[_Wish[T, R]] = []
        self._is_busy = False
        self._lock = threading.Lock()

    def __call__(self, item: T) -> R:
        """The result for this item, or what was raised."""
        wish: _Wish[T, R] = _Wish(item)
        with self._lock:
            self._waiting.append(wish)
            is_first, self._is_busy = not self._is_busy, True
        if not is_first:
            wish.turn.acquire()
        if not wish.is_done:
            self._lead()
        if wish.error:
            raise wish.error
        return wish.result

    def _lead(self) -> None:
        """Do what has gathered; then the first of those that came meanwhile does the same."""
        with self._lock:
            group = self._waiting[: self._most]
            del self._waiting[: self._most]
        try:
            self._serve(group)
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._is_busy = bool(following)
            for wish in group:
                wish.is_done = True
            for wish in following + group:
                wish.turn.release()

    def _serve(self, group: Sequence[_Wish[T, R]]) -> None:
        try:
            for wish, result in zip(group, self._do([wish.item for wish in group]), strict=True):
                wish.result = result
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who asked
            if len(group) > 1 and not isinstance(error, self._shared):
                for wish in group:
                    self._serve([wish])
            else:
                for wish in group:
                    wish.error = copy.copy(error)  # each thread adds its own traceback
