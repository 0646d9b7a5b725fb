"""Who may call into an engine: one thread at a time."""

from __future__ import annotations

import collections
import threading
from typing import Any

from trimtab._errors import BusyError

# How many of the library's callbacks this thread is inside of.
callbacks = threading.local()


class Turn:
    """A lock in the order of asking: a thread that steps again and again lets others in between two steps, which a
    plain lock does not promise. An interrupt (KeyboardInterrupt) while a thread waits leaves it in order, and one that
    comes between taking the turn and using it is made good at the thread's next use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: collections.deque[object] = collections.deque()
        self._owner: int | None = None

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            if getattr(callbacks, "depth", 0):
                raise BusyError("a progress function may not use the engine that called it")
            return
        ticket = object()
        try:
            with self._changed:
                self._queue.append(ticket)
                while self._owner is not None or self._queue[0] is not ticket:
                    self._changed.wait()
                self._owner = me
                self._queue.popleft()
        except BaseException:
            with self._changed:
                if ticket in self._queue:
                    self._queue.remove(ticket)
                if self._owner == me:
                    self._owner = None
                self._changed.notify_all()
            raise

    def __exit__(self, *_: Any) -> None:
        with self._changed:
            self._owner = None
            self._changed.notify_all()
