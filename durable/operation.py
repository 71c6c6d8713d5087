"""One verb of a storage with its arguments, in whichever colour its caller runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Protocol, TypeVar

__all__ = ["Operation"]

T_co = TypeVar("T_co", covariant=True)


class Operation(Protocol[T_co]):
    """One verb with its arguments, not yet run. Running it twice does it twice."""

    def __await__(self) -> Generator[Any, None, T_co]:
        """Run it on the storage's own connection, from an event loop."""
        ...

    def run(self) -> T_co:
        """Run it on the storage's own connection, blocking this thread."""
        ...

    def run_on(self, connection: Any) -> T_co:
        """Run it in the transaction of the caller's blocking connection; commit and rollback stay the caller's."""
        ...

    def await_on(self, connection: Any) -> Awaitable[T_co]:
        """Run it in the transaction of the caller's asynchronous connection."""
        ...
