"""The exceptions. Each carries the library's own line, and its code."""

from __future__ import annotations


class Error(Exception):
    """What the library refused or could not do. The subclasses say of which kind it was."""

    code: int = 0  # enum tt_status


class ArgumentError(Error, ValueError):
    """Something was asked for that has no meaning."""

    code = -1


class OutOfMemoryError(Error, MemoryError):
    code = -2


class FileError(Error, OSError):
    """A file could not be opened, read, mapped or written."""

    code = -3


class FormatError(Error, ValueError):
    """A file or a text breaks its own format."""

    code = -4


class UnsupportedError(Error):
    """Valid, but not something that this build does."""

    code = -5


class MismatchError(Error):
    """A policy does not belong to the model, or a file to the run that it should go on with."""

    code = -6


class LimitError(Error):
    """A stated limit was reached: the context, pages, steps."""

    code = -7


class DeviceError(Error):
    """The accelerator reported an error."""

    code = -8


class ClosedError(Error):
    """The engine, text or request was closed before; or it is another process's, from before a fork."""


class BusyError(Error):
    """A progress function, a signal handler or a destructor used an engine in the midst of its own thread's use."""


BY_CODE: dict[int, type[Error]] = {
    kind.code: kind
    for kind in (ArgumentError, OutOfMemoryError, FileError, FormatError, UnsupportedError, MismatchError, LimitError,
                 DeviceError)
}
