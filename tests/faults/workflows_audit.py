"""What the database itself writes down during a workflows run, and where the effects of transactions go."""

from __future__ import annotations

from typing import LiteralString

from tests.faults.server import Database

__all__ = ["EFFECT", "begin_audit"]

EFFECT: LiteralString = "insert into /*schema*/step_effects (execution_id, key, fence, value) values (%s, %s, %s, %s)"

# No unique constraint: an effect that was written twice must stay visible.
_AUDIT = """
create table /*schema*/step_effects (
    execution_id uuid not null, key text not null, fence bigint not null, value bigint not null);
create table /*schema*/history_audit (
    execution_id uuid not null, operation text not null, seq integer not null, kind text not null, key text not null,
    fence bigint);
create function /*schema*/note_entry() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        -- Whoever writes an entry holds the execution, so its fence is that of the turn that writes.
        insert into /*schema*/history_audit
        select new.execution_id, tg_op, new.seq, new.kind, new.key, e.fence
        from /*schema*/executions as e where e.id = new.execution_id;
        return null;
    end if;
    insert into /*schema*/history_audit values (old.execution_id, tg_op, old.seq, old.kind, old.key, null);
    return null;
end $$;
create trigger history_audit after insert or update or delete on /*schema*/history for each row
execute function /*schema*/note_entry();
"""


def begin_audit(database: Database) -> None:
    """From now on every change of a history is written down."""
    database.rows(_AUDIT)
