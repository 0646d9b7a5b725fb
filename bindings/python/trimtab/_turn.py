"""Who may call into an engine: one thread at a time."""

from __future__ import annotations

import collections
import os
import sys
import threading
from types import FrameType
from typing import Any

from trimtab._errors import BusyError, ClosedError


def same_process(pid: int) -> None:
    if os.getpid() != pid:
        raise ClosedError("the engine was opened by another process, whose threads a fork does not copy: open one here")


def is_on_the_stack(frame: FrameType | None) -> bool:
    below: FrameType | None = sys._getframe(1)
    while below is not None and below is not frame:
        below = below.f_back
    return below is not None


class Turn:
    """A lock in the order of asking: a thread that steps again and again lets others in between two steps, which a
    plain lock does not promise. An interrupt (KeyboardInterrupt) while a thread waits leaves it in order, and one that
    comes between taking the turn and using it is made good at the thread's next use.

    Python runs signal handlers, destructors and the library's callbacks in the midst of a with statement of the same
    thread. They are told from a turn that an interrupt left behind by the frame of that statement, which is then still
    on the thread's stack. So no function that has such a statement may catch what leaves it and use the turn again."""

    def __init__(self, of_engine: bool = True) -> None:
        self._changed = threading.Condition()
        self._queue: collections.deque[int] = collections.deque()  # threads that wait
        self._owner: int | None = None
        self._holder: FrameType | None = None  # the frame of the owner's with statement
        self._of_engine, self._pid = of_engine, os.getpid()

    def __enter__(self) -> None:
        if os.getpid() != self._pid:  # who had the turn at the fork may be no thread of this process
            if self._of_engine:
                same_process(self._pid)
            self.__init__(self._of_engine)  # type: ignore[misc]
        me, frame = threading.get_ident(), sys._getframe(1)
        if me in self._queue or self._owner == me and is_on_the_stack(self._holder):
            raise BusyError("a progress function, a signal handler or a destructor may not use an engine in the midst "
                            "of its own thread's use of it")
        if self._owner == me:
            self._holder = frame
            return
        try:
            with self._changed:
                self._queue.append(me)
                while self._owner is not None or self._queue[0] != me:
                    self._changed.wait()
                self._holder, self._owner = frame, me
                self._queue.popleft()
        except BaseException:
            with self._changed:
                if me in self._queue:
                    self._queue.remove(me)
                if self._owner == me:
                    self._owner = self._holder = None
                self._changed.notify_all()
            raise

    def __exit__(self, *_: Any) -> None:
        with self._changed:
            self._owner = self._holder = None
            self._changed.notify_all()
