"""Ways in which the SQL could be wrong, each as a change of its text, for `python -m tests.mutants`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from durable.execution import CloseStatus, Kind, Phase, Status

__all__ = ["MUTATIONS", "Mutation", "Unmatched", "mutate_migrations", "mutate_statements"]

SETTLES: Final = ("settle", "settle_and_spawn", "settle_and_note")
SPAWNERS: Final = ("settle_and_spawn", "settle_and_note")
TELLERS: Final = (*SETTLES, "cancel", "close_trees", "recover", "apply_wakeups", "expire_waits")
"""Every statement that tells parents of ended children."""


class Mutation(NamedTuple):
    """`old` becomes `new` wherever it stands in the statements named; without statements, in the migrations."""

    name: str
    statements: tuple[str, ...]
    old: re.Pattern[str]
    new: str
    first: str
    """The tests that should notice, as a pytest -k expression; they run before all others."""


class Unmatched(Exception):
    """The text that a mutation changes is not there any more: the SQL has moved on, and the mutation must follow."""


def mutate_statements(mutation: Mutation, statements: Mapping[str, str]) -> dict[str, str]:
    return {**statements, **{name: _changed(mutation, statements[name]) for name in mutation.statements}}


def mutate_migrations(mutation: Mutation, migrations: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    if mutation.statements:
        return migrations
    texts = _changed(mutation, "\0".join(text for _, _, text in migrations)).split("\0")
    return [(number, name, text) for (number, name, _), text in zip(migrations, texts, strict=True)]


def _changed(mutation: Mutation, text: str) -> str:
    changed, count = mutation.old.subn(lambda _: mutation.new, text)
    if not count or changed == text:
        raise Unmatched(f"{mutation.name}: nothing reads {mutation.old.pattern!r}")
    return changed


def _one(name: str, statements: str | tuple[str, ...], old: str, new: str, first: str = "") -> Mutation:
    named = (statements,) if isinstance(statements, str) else statements
    return Mutation(name, named, re.compile(re.escape(old)), new, first)


_LANES: Final = (
    "from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(after)s::uuid[]) as lane (queue, priority, after)"
)
_FENCED: Final = " and e.fence = any(array[i.fence])"
_NEEDS_CANCEL: Final = " needs_cancel = e.status = 'running',"
_SOME_LEFT: Final = "e.deliveries < e.max_deliveries"

_HAND_MADE: Final = (
    # The fence: every write on behalf of an attempt carries it, every change of hands raises it.
    _one("settle without the fence", SETTLES, _FENCED, "", "settle"),
    _one("renew without the fence", "renew", _FENCED, "", "renew"),
    _one("heartbeat without the fence", "heartbeat", _FENCED, "", "heartbeat"),
    _one("claim keeps the fence", "claim", "fence = e.fence + 1", "fence = e.fence", "claim"),
    _one("recover keeps the fence", "recover", "fence = e.fence + 1", "fence = e.fence", "recover"),
    _one("cancel keeps the fence", "cancel", "fence = e.fence + 1", "fence = e.fence", "cancel"),
    _one("settle keeps the fence", SETTLES, "fence = i.fence + 1", "fence = i.fence", "settle"),
    _one("the settled fence is not written", SETTLES, " settled_fence = i.fence,", "", "settled"),
    # Claims.
    _one("claim waits for locked rows", "claim", " for no key update skip locked", " for no key update", "claim"),
    _one("claim takes the limit of every lane", "claim", ") as due limit %(limit)s::bigint", ") as due", "claim"),
    _one("claim has no limit", "claim", " limit %(limit)s::bigint", "", "claim"),
    _one("claim does not lock", "claim", " for no key update skip locked", "", "claim"),
    _one("claim takes what is not due", "claim", " and e.due_at <= (select now from at)", "", "claim"),
    _one("claim passes over all of a lane", "claim", "lane.after), '-infinity')", "lane.after), 'infinity')", "claim"),
    _one("claim goes back to the beginning", "claim", " and (e.due_at, e.id) > (",
         " and (e.due_at, e.id) is distinct from (", "claim"),
    _one("claim counts no delivery", "claim", " then 0 else 1 end, executor_id", " then 0 else 0 end, executor_id",
         "claim or recover"),
    _one("claim counts the deliveries of suspects", "claim", " then 0 else 1 end, executor_id",
         " then 1 else 1 end, executor_id", "suspect or recover"),
    _one("claim suspects nobody who was lost", "claim", "e.deliveries >= 2 or ", "", "suspect"),
    _one("claim suspects nobody who has one delivery left", "claim", " or e.deliveries + 1 >= e.max_deliveries", "",
         "suspect"),
    _one("the start of a suspect is not counted", "count_starts", "then 1 else 0 end", "then 0 else 0 end", "suspect"),
    _one("starts are counted again", "count_starts", " reason = null,", "", "count_starts"),
    _one("starts are counted without the fence", "count_starts", _FENCED, "", "count_starts"),
    _one("claim counts no attempt", "claim", " attempts = e.attempts + 1,", "", "claim"),
    _one("claim takes the lowest priority first", "claim", _LANES, _LANES.replace(
        "unnest(", "(select * from unnest(").replace("as lane", "as x") + " order by x.priority) as lane", "claim"),
    _one("claim takes the latest due first", "claim", "order by e.due_at, e.id", "order by e.due_at desc", "claim"),
    _one("claim takes names it does not know", "claim", " and e.task_name = any(%(task_names)s::text[])", "", "claim"),
    _one("claim takes records of a later version", "claim", "e.record_version <= ", "0 <> ", "claim"),
    # Parents and children.
    _one("a finished child is not counted down", TELLERS, "- told.children as children", "as children",
         "children or tree"),
    _one("a child is counted down twice", TELLERS, "- told.children", "- told.children * 2", "children or tree"),
    _one("the last child does not wake the parent", TELLERS, "when n.goes_on then 'ready'",
         "when n.goes_on then p.status", "children or tree"),
    _one("any child wakes the parent", TELLERS, "goes_on(p.status, p.wake_at_children, c.children, told.failed)",
         "goes_on(p.status, p.wake_at_children, 0, told.failed)", "children or tree"),
    _one("spawned children are not counted", SPAWNERS, " + i.children, updated_at", ", updated_at", "spawn"),
    _one("a refused spawn inserts its children", SPAWNERS, "join settled as s on s.id = c.parent_id",
         "join /*schema*/executions as s on s.id = c.parent_id", "spawn or settle"),
    # Closing.
    _one("an emptied parent is not closed", TELLERS, "when n.closes then 'closed'", "when n.closes then 'closing'",
         "close"),
    _one("what finishes is never closed", SETTLES, "when e.active_children_count = 0 then 'closed'",
         "when e.active_children_count = 0 then 'ready'", "close or settle"),
    _one("closing cancels no children", "close_trees", "e.finished_at is null as is_open", "false as is_open", "close"),
    _one("closes that are late are never given back", "recover_closes", "c.close_lease_expires_at <= (select",
         "c.close_lease_expires_at + interval '1 year' <= (select", "close"),
    _one("closes are given back while they are held", "recover_closes",
         " and c.close_lease_expires_at <= (select /*schema*/clock_now())", "", "close"),
    # Recovery.
    _one("recover waits for locked rows", "recover", " for no key update skip locked", " for no key update", "recover"),
    _one("recover takes live leases", "recover", " and e.lease_expires_at <= (select now from at)", "", "recover"),
    _one("recover has no limit", "recover", " limit %(limit)s::bigint", "", "recover"),
    _one("nothing is ever poisoned", "recover", _SOME_LEFT, "true", "recover"),
    _one("a crash costs an attempt", "recover", "e.attempts - 1 else", "e.attempts else", "recover"),
    # Cancel, redrive.
    _one("a running child is not told of a cancel", "close_trees", _NEEDS_CANCEL, "", "close"),
    _one("a running execution is not told of a cancel", "cancel", _NEEDS_CANCEL, "", "cancel"),
    _one("a cancel is picked up again and again", "pick_up_cancelled", "set needs_cancel = false",
         "set needs_cancel = true", "cancel"),
    _one("cancel ends what has finished", "cancel", "where n.is_open union all", "where true union all", "cancel"),
    _one("redrive revives children", "redrive", " and e.parent_id is null", "", "redrive"),
    _one("redrive revives what is still closing", "redrive", " and e.close_status = 'closed'", "", "redrive"),
    # Waiting.
    _one("what waits expires at once", "expire_waits", " and e.wait_expires_at <= (select now from at)", "", "expire"),
    _one("the last wake-up wins", "keep_wakeup", "on conflict do nothing",
         "on conflict (task_name, sleeping_id) do update set output = excluded.output", "wake"),
    _one("a wake-up is kept for ever", "apply_wakeups", "where w.task_name = m.task_name and w.sleeping_id",
         "where false and w.sleeping_id", "duties"),
    # Enqueue.
    _one("a key fits any input", "existing_rows", "e.idempotency_hash is not distinct from i.idempotency_hash", "true",
         "enqueue"),
    _one("a delay is forgotten", "enqueue", "at.now + i.delay * interval '1 second'), at.now)", "at.now), at.now)",
         "enqueue or claim"),
    _one("the delay of a single one is forgotten", "enqueue_one",
         "at.now + %(delay)s::double precision * interval '1 second'), at.now)", "at.now), at.now)",
         "enqueue or claim"),
    _one("a time in the past stays in the past", "enqueue", "greatest(coalesce(i.run_at, ", "least(coalesce(i.run_at, ",
         "enqueue"),
    _one("the past of a single one stays in the past", "enqueue_one", "greatest(coalesce(%(run_at)s::timestamptz, ",
         "least(coalesce(%(run_at)s::timestamptz, ", "enqueue"),
    _one("the delay of alike ones is forgotten", "enqueue_alike",
         "x.now + %(delay)s::double precision * interval '1 second'), x.now)", "x.now), x.now)", "enqueue"),
    _one("the past of alike ones stays in the past", "enqueue_alike", "greatest(coalesce(%(run_at)s::timestamptz, ",
         "least(coalesce(%(run_at)s::timestamptz, ", "enqueue"),
    _one("alike ones are given to no pool", "enqueue_alike", "%(is_pooled)s::boolean", "false", "enqueue"),
    # Notices.
    _one("a refused turn stores its notices", "settle_and_note", "join settled as s on s.id = n.turn",
         "cross join (select true) as s", "notice"),
    _one("any holder takes the right to deliver", "hold_delivery", "(d.holder is null or d.holder = excluded.holder or",
         "(true or", "notices"),
    _one("a delivery is never taken over", "hold_delivery", " or d.lease_expires_at <= excluded.due_at)", ")",
         "notices"),
    _one("a delivery that was put off is taken at once", "hold_delivery", "d.due_at <= excluded.due_at and", "",
         "delivery"),
    _one("notices are given in any order", "first_notices", "order by o.at, o.id", "order by o.data, o.id desc",
         "notices"),
    _one("notices of all subscribers are given", "first_notices", "where o.subscriber = %(subscriber)s::text",
         "where %(subscriber)s::text is not null", "notices"),
    _one("delivered notices stay", "delivered", "delete from /*schema*/outbox as o where",
         "delete from /*schema*/outbox as o where false and", "deliver"),
    _one("what is delivered to one is gone for all", "delivered", "o.subscriber = %(subscriber)s::text and o.id",
         "%(subscriber)s::text is not null and o.id", "delivered"),
    _one("failures are never forgotten", "delivered", "set failure_count = 0", "set failure_count = d.failure_count",
         "delivery"),
    _one("an idle holder keeps the right", "let_delivery_go", "set holder = null", "set holder = d.holder", "notices"),
    _one("emit fails on what is there", "emit", " on conflict do nothing", "", "emit"),
    # Workflows.
    _one("a checkpoint without the fence", "checkpoint", _FENCED, "", "checkpoint"),
    _one("an entry without the fence", "checkpoint", "join held as h on h.id = n.id and h.fence = n.fence",
         "join held as h on h.id = n.id", "checkpoint"),
    _one("a checkpoint given again fails", "checkpoint", " on conflict (execution_id, seq) do update set at = e.at", "",
         "checkpoint"),
    _one("a checkpoint given again is written again", "open_turns", "select 1 from /*schema*/history as h where",
         "select 1 from /*schema*/history as h where false and", "checkpoint"),
    _one("late writers of several statements pass", "open_turns", _FENCED, "", "checkpoint"),
    _one("children of a running workflow are not counted", "spawn_from_turns", "e.active_children_count + i.children",
         "e.active_children_count", "checkpoint"),
    _one("a workflow cancels the children of others", "own_children",
         " and e.parent_id = any(array[i.parent])", "", "checkpoint"),
    _one("deliveries are never forgiven", "forgive_deliveries", "set deliveries = 1", "set deliveries = e.deliveries",
         "progress"),
    # Each of the two would do alone: the first is asked in the same transaction, with the rows held.
    _one("a workflow ends without the fence", ("open_turns", "end_workflow_turns"), _FENCED, "", "suspen"),
    _one("unseen messages do not matter", "end_workflow_turns", "n.told > t.seen_messages or", "false or",
         "suspen or message"),
    _one("children that ended before do not matter", "end_workflow_turns",
         "coalesce(n.children <= t.wake_at_children, false)", "false", "suspen or children"),
    _one("children that end with their parent are not counted", "end_workflow_turns",
         "e.active_children_count - coalesce(own.children, 0)", "e.active_children_count", "children or call"),
    _one("a suspension forgets what it waits for", "end_workflow_turns",
         "then i.wake_at_children end", "then null::integer end", "children or suspen"),
    _one("a mark outlives its turn", "end_workflow_turns", " needs_cancel = false,", "", "mark"),
    _one("continuing keeps the history", "forget_history", "/*schema*/history as h using turns as t where",
         "/*schema*/history as h using turns as t where false and", "continue"),
    _one("continuing drops messages nobody has read", "forget_history", "m.number between 1 and t.seen_messages",
         "m.number > 0", "continue"),
    _one("a message wakes nobody", "send_messages", "then 'ready' else e.status", "then e.status else e.status",
         "message"),
    _one("a message starts what has never run", "send_messages", " and e.due_at > at.now and e.fence > 0",
         " and e.due_at > at.now", "message"),
    _one("a message cuts a wait between attempts short", "send_messages", "(e.attempts = 0 or r.asks)", "true",
         "attempts"),
    _one("a running receiver is not marked", "send_messages", " needs_cancel = e.status = 'running',", "", "marked"),
    _one("finished workflows get messages", "send_messages", "when h.is_finished then 'finished'", "", "refused"),
    _one("a duplicate in one call is stored", "send_messages", "when s.try > 1 then 'duplicate'", "",
         "idempotent or message"),
    _one("workflows are cancelled at once", ("cancel", "close_trees"), "e.kind = 'workflow' and e.fence > 0", "false",
         "cancel or close"),
    _one("a closing that waits is looked at", "wait_for_asked", "set close_lease_expires_at = null",
         "set close_lease_expires_at = p.close_lease_expires_at", "closing"),
    _one("asked workflows are named again", "unfinished", "or not exists ( select 1", "or exists ( select 1",
         "cancel_all"),
    _one("redrive revives workflows", "redrive", "('sleeping', 'turn', 'workflow')", "('sleeping', 'turn')", "redrive"),
    _one("retire leaves histories", "retire", "/*schema*/history as h using workflows as w where",
         "/*schema*/history as h using workflows as w where false and", "retire"),
    _one("retire leaves messages", "retire", "/*schema*/messages as m using workflows as w where",
         "/*schema*/messages as m using workflows as w where false and", "retire"),
    _one("histories ignore what is known", "histories", " and n.seq > i.seq", "", "histories"),
    _one("a fork copies everything", "copy_history", " or h.seq < %(before)s::integer", " or true", "fork"),
    _one("a fork copies what it leaves out", "copy_history", "and h.seq <> all(", "and true or h.seq = all(", "fork"),
    _one("a fork has all pieces", "copy_chunks", " - later.pieces as last", " as last", "fork"),
    _one("a fork has no values of earlier runs", "copy_values", "and p.at < (", "and p.at > (", "fork"),
    _one("published values keep their version", "publish", "version = p.version + 1", "version = p.version",
         "published"),
    _one("chunks begin anew", "append_chunks", "coalesce(c.number, 0)", "0", "chunks"),
)  # fmt: skip


def _missing_words() -> Iterator[Mutation]:
    """Each word of each enum, missing from the domain of its column."""
    enums: dict[str, type[StrEnum]] = {"status": Status, "kind": Kind, "phase": Phase, "close_status": CloseStatus}
    for column, enum in enums.items():
        for word in enum:
            others = [f"'{other}'" for other in enum if other is not word]
            listed = re.compile(rf"(?<=executions_{column} check \(value in \()[^)]*'{word}'[^)]*(?=\))")
            yield Mutation(f"{column} may not be {word}", (), listed, ", ".join(others), "")


MUTATIONS: Final = {mutation.name: mutation for mutation in (*_HAND_MADE, *_missing_words())}
