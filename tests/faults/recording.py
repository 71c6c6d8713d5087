"""A storage that notes in the ledger what became of every write that carries a fence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from durable.execution import Settled, Settlement
from storage_postgres import PostgresStorage
from storage_postgres.operation import PostgresOperation
from storage_postgres.plan import Plan
from tests.faults.ledger import Ledger

__all__ = ["RecordingStorage"]

T = TypeVar("T")


class RecordingStorage(PostgresStorage):
    """Each settle, heartbeat and renewal becomes one `write` event per execution: which verb, and whether it counted.

    The event is noted when the server has answered, so a killed process may leave an accepted write unnoted, and never
    notes one that was not.
    """

    def __init__(self, dsn: str, *, schema: str, ledger: Ledger) -> None:
        super().__init__(dsn, schema=schema, min_size=2, max_size=4)
        self._ledger = ledger

    def settle(self, settlements: Sequence[Settlement], **options: Any) -> PostgresOperation[Settled]:
        operation = super().settle(settlements, **options)

        def note(settled: Settled) -> None:
            for item in settlements:
                self._note(_verb_of(item), item.id, item.fence, item.id in settled.accepted)

        return self._noting(operation, note)

    def heartbeat(self, beats: Sequence[tuple[str, int, str]]) -> PostgresOperation[frozenset[str]]:
        operation = super().heartbeat(beats)

        def note(held: frozenset[str]) -> None:
            for id_, fence, _ in beats:
                self._note("heartbeat", id_, fence, id_ in held)

        return self._noting(operation, note)

    def renew(self, held: Sequence[tuple[str, int]], *, lease: float) -> PostgresOperation[frozenset[str]]:
        operation = super().renew(held, lease=lease)

        def note(renewed: frozenset[str]) -> None:
            for id_, fence in held:
                self._note("renew", id_, fence, id_ in renewed)

        return self._noting(operation, note)

    def _note(self, verb: str, execution_id: str, fence: int, is_accepted: bool) -> None:
        self._ledger.note("write", execution_id, fence, verb=verb, accepted=is_accepted)

    def _noting(self, operation: PostgresOperation[T], note: Callable[[T], None]) -> PostgresOperation[T]:
        make_plan = operation.make_plan

        def noted() -> Plan[T]:
            result: Any = yield from make_plan()
            note(result)
            return result  # type: ignore[no-any-return]

        return PostgresOperation(self.connections, noted, operation.transaction)


def _verb_of(settlement: Settlement) -> str:
    """How the end of a turn is called in the report."""
    match settlement.status:
        case "waiting_for_children":
            return "spawn"
        case "waiting_for_finalize":
            return "spawn_finalize"
        case "ready" if settlement.error is not None:
            return "retry"
        case "ready" if settlement.children or settlement.phase == "children":
            return "spawn"
        case "ready":
            return "repeat or release"
        case _:
            return str(settlement.status)
