"""What the library calls back, in Python. Nothing is raised through it: what was raised is kept, and the call that
began it all raises it (reraise in _options.py)."""

from __future__ import annotations

from typing import Any

from trimtab._library import ffi, text_of


def keep_raised(_kind: Any, error: BaseException, trace: Any) -> None:
    """Of what was raised outside of the functions' own care: an interrupt at their first or last instruction."""
    ffi.from_handle(trace.tb_frame.f_locals["user"]).raised = error


def run(calls: Any, function: Any, *arguments: Any) -> None:
    try:
        if calls.raised is None and function is not None:
            function(*arguments)
    except BaseException as error:  # KeyboardInterrupt too
        calls.raised = error


@ffi.def_extern(error=1, onerror=keep_raised)  # type: ignore[untyped-decorator]
def trimtab_progress(user: Any, stage: Any, done: int, total: int) -> int:
    calls = ffi.from_handle(user)
    run(calls, calls.progress, text_of(stage), done, total)
    return int(calls.raised is not None)


@ffi.def_extern(onerror=keep_raised)  # type: ignore[untyped-decorator]
def trimtab_note(user: Any, line: Any) -> None:
    calls = ffi.from_handle(user)
    run(calls, calls.note, text_of(line))
