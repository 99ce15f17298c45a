"""What stands around a call into a syncer: a deadline, a limit on memory, a zone that is not UTC, an ear at stdout.

Signals, limits and file descriptors belong to the whole process, so they are set in its main thread alone; elsewhere a
syncer runs without deadline and limit. Each guard leaves the process as it found it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SYNCER_ZONE = "Asia/Tokyo"
"""Syncers run in a zone that is not UTC, so that local time shows."""
MIB = 1 << 20
_STATM = Path("/proc/self/statm")
"""Says first how many pages of address space the process has."""
DEEPEST_CALL = 2_000
"""Calls in calls: twice what Python allows by itself, and half of what 8 MiB of stack bear."""
OUTPUT_KEPT_BYTES = 1_000
"""So much of what a syncer writes is kept to be shown."""
OUTPUT_PASSED_ON_BYTES = 64 << 10
"""So much of it goes on to stderr, where whoever debugs it looks."""


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


# -- zone


@contextlib.contextmanager
def same_folder() -> Iterator[None]:
    """Come back to the working directory, wherever what runs inside goes."""
    found = os.getcwd()
    try:
        yield
    finally:
        os.chdir(found)


@contextlib.contextmanager
def foreign_zone() -> Iterator[None]:
    """Let what runs inside find itself in a zone that is not UTC."""
    if not hasattr(time, "tzset"):
        yield
        return
    found = os.environ.get("TZ")
    os.environ["TZ"] = SYNCER_ZONE
    time.tzset()
    try:
        yield
    finally:
        if found is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = found
        time.tzset()


# -- time


class OutOfTime(BaseException):
    """Raised inside what takes too long; no ``except Exception`` of its own stops it."""


@contextlib.contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Stop what runs inside after so many seconds: in the main thread, where signals are delivered.

    Raises:
        OutOfTime: If it was not done by then.
    """
    if seconds is None or not _in_main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    # Nothing from whoever entered this outwards is to be stopped, nor the way out: a next shot will find it inside.
    home = sys._getframe(2)
    spared = (home.f_code, sys._getframe().f_code, contextlib._GeneratorContextManager.__exit__.__code__)
    shots = 0

    def out_of_time(_signum: int, frame: FrameType | None) -> None:
        nonlocal shots
        if frame is not None and frame.f_code in spared:
            return
        shots += 1
        if shots > 1:
            _hunt(frame, home)
        raise OutOfTime

    found = signal.signal(signal.SIGALRM, out_of_time)
    tracer, profiler = sys.gettrace(), sys.getprofile()
    # Fires again and again: a syncer that swallows everything is still stopped in the end.
    signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds / 20, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, found)
        if shots > 1:
            sys.setprofile(profiler)
            sys.settrace(tracer)


def _hunt(frame: FrameType | None, home: FrameType) -> None:
    """Raise at every next line of whatever runs between here and home, handlers of errors included.

    ``while True: try: ... except: pass`` swallows whatever is raised in its ``try``, and nothing that is raised in its
    ``except``. Python stops tracing when a tracer raises; the profiler takes it up again for the caller.
    """
    running: list[FrameType] = []
    while frame is not None and frame is not home:
        running.append(frame)
        frame = frame.f_back

    def trace(_frame: FrameType, event: str, _arg: object) -> None:
        if event == "line":
            raise OutOfTime

    def profile(_frame: FrameType, _event: str, _arg: object) -> None:
        for one in running:
            one.f_trace = trace
        sys.settrace(trace)

    sys.setprofile(profile)
    for one in running:
        one.f_trace = trace
    sys.settrace(trace)


# -- depth


@contextlib.contextmanager
def bounded_depth() -> Iterator[None]:
    """Let calls inside nest no deeper than the process's own stack bears.

    The EVM raises Python's limit so far that a recursion through C (a ``sorted`` with a key, a ``repr``) would end
    the process instead of in a RecursionError.
    """
    found = sys.getrecursionlimit()
    sys.setrecursionlimit(min(found, DEEPEST_CALL))
    try:
        yield
    finally:
        sys.setrecursionlimit(found)


# -- memory


@contextlib.contextmanager
def memory_limit(mib: int | None) -> Iterator[None]:
    """Let what runs inside take so many MiB more than the process has now; beyond, Python raises `MemoryError`.

    Kept where the system limits address space and says how much of it is in use (Linux).
    """
    if mib is None or not _in_main_thread() or not _STATM.exists():
        yield
        return
    import resource

    used = int(_STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + mib * MIB
    for other in (soft, hard):
        limit = limit if other == resource.RLIM_INFINITY else min(limit, other)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# -- output


class Output:
    """What was written to stdout, as much of it as is kept."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.size = 0
        """In bytes, all of it."""

    def add(self, data: bytes) -> None:
        """Note what was written."""
        self._kept += data[: OUTPUT_KEPT_BYTES - len(self._kept)]
        self.size += len(data)

    @property
    def text(self) -> str | None:
        """The beginning of it; None if nothing was written."""
        return self._kept.decode("utf-8", "replace") if self.size else None


class _Ear(io.RawIOBase):
    """A stdout that listens; the beginning of what it hears goes on to stderr."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        heard = bytes(data)
        left = OUTPUT_PASSED_ON_BYTES - self._output.size
        if left > 0 and sys.stderr is not None:
            sys.stderr.write(heard[:left].decode("utf-8", "replace"))
        self._output.add(heard)
        return len(heard)


@contextlib.contextmanager
def captured_output() -> Iterator[Output]:
    """Catch what is written to stdout inside, by ``print`` or past Python, by child processes too."""
    output = Output()
    # A buffer of one byte holds nothing back.
    ear = io.TextIOWrapper(
        io.BufferedWriter(_Ear(output), 1), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    with _captured_descriptor(output), contextlib.redirect_stdout(ear):
        try:
            yield output
        finally:
            with contextlib.suppress(ValueError):  # somebody closed it
                ear.flush()


_files: dict[int, IO[bytes]] = {}
"""The process's file for what comes past Python; a fork gets its own."""


@contextlib.contextmanager
def _captured_descriptor(output: Output) -> Iterator[None]:
    real = _duplicate(1) if _in_main_thread() else None
    if real is None:
        yield
        return
    file = _files.get(os.getpid())
    if file is None:
        _files.clear()
        file = _files[os.getpid()] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process
    os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(real, 1)
        os.close(real)
        size = os.fstat(file.fileno()).st_size
        if size:
            output.add(os.pread(file.fileno(), OUTPUT_KEPT_BYTES, 0))
            output.size += max(0, size - OUTPUT_KEPT_BYTES)
            os.ftruncate(file.fileno(), 0)
            os.lseek(file.fileno(), 0, os.SEEK_SET)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # closed
        return None
