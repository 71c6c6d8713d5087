"""What the contract needs of a storage under test: handles on one fresh store, its clock, and ways past its verbs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from durable.storage import Storage

__all__ = ["ContractSubject", "Held"]


class Held(Protocol):
    """Rows that another transaction holds."""

    async def contended(self) -> None:
        """Return as soon as somebody waits for one of the rows. At once where the storage has no row locks."""
        ...


class ContractSubject(Protocol):
    """One fresh, empty store. The clock stands still except for `advance`, for every handle alike."""

    @property
    def handles(self) -> Sequence[Storage]:
        """At least three, independent of each other, open for `await` and for `run()`."""
        ...

    @property
    def has_row_locks(self) -> bool:
        """False where one lock orders all transactions: nobody ever meets a row that another one holds."""
        ...

    @property
    def has_transactions(self) -> bool:
        """False where `run_on` and `await_on` apply at once, whatever the caller's transaction does."""
        ...

    async def advance(self, seconds: float) -> None:
        """Move the store's clock on."""
        ...

    async def now(self) -> datetime:
        """The store's clock."""
        ...

    def hold(self, ids: Sequence[str]) -> AbstractAsyncContextManager[Held]:
        """Lock the rows of these executions in another transaction, unchanged, until the block ends."""
        ...

    def rolled_back(self) -> AbstractAsyncContextManager[Any]:
        """An asynchronous connection for `await_on`, in a transaction that is rolled back when the block ends."""
        ...

    def rolled_back_blocking(self) -> AbstractContextManager[Any]:
        """The same with a blocking connection for `run_on`; used from a thread."""
        ...

    async def tamper(self, execution_id: str, **columns: object) -> None:
        """Write columns of a record past every verb, as damage or another version would. Enums come as themselves."""
        ...
