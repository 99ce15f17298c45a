"""How a node is asked: with patience that ends, and with a memory for what it contradicts itself in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness.errors import NodeError, SyncRefused

T = TypeVar("T")
Pause = Callable[[float], object]
"""Lets so many seconds pass."""

TRIES = 6
"""How often the same is asked before it counts as not answered."""
FIRST_PAUSE = 0.0001
"""Seconds before the second try; each further pause is twice as long."""


class Doubt(SyncRefused):
    """What a node says contradicts itself, or it says nothing: worth another look, in the end a refusal."""


class Patience:
    """Asks again for a while, pausing longer each time."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause

    def ask(self, what: str, read: Callable[[], T]) -> T:
        """The first answer that is one.

        Raises:
            Doubt: If none of the tries gave any; it says why the last did not.
        """
        trouble: Exception | None = None
        for attempt in range(TRIES):
            self.wait(attempt)
            try:
                return read()
            except (NodeError, OSError, Doubt) as error:
                trouble = error
        if isinstance(trouble, Doubt):
            raise trouble
        raise Doubt(f"the node does not give {what}: {trouble}") from trouble

    def wait(self, attempt: int) -> None:
        """Pause before an attempt, counted from 0, which is not waited for."""
        if attempt:
            self._pause(FIRST_PAUSE * 2 ** (attempt - 1))


def as_number(value: Any) -> int:
    """A whole number that a node gives as such or as hex text.

    >>> as_number(10), as_number("0xa"), as_number("10")
    (10, 10, 10)
    """
    if isinstance(value, str):
        return int(value, 16 if value.lower().startswith("0x") else 10)
    return int(value)


def as_bytes(value: Any) -> bytes:
    """Bytes that a node gives as such or as hex text, with or without ``0x``.

    >>> as_bytes("0xff") == as_bytes("ff") == as_bytes(bytes([255]))
    True
    """
    if isinstance(value, str):
        return bytes.fromhex(value[2:] if value[:2] in ("0x", "0X") else value)
    return bytes(value)
