"""What a type checker makes of keyed jobs. Checked by mypy and pyright, both strict; never run.

A line that must be refused carries an ignore for each checker; both report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from durable import Durable, Registry, Retry
from durable.errors import ErrorInfo
from durable.jobs import (
    AddResult,
    ClearResult,
    Continuous,
    ContinuousContext,
    ContinuousStatus,
    Debounce,
    DebounceContext,
    DebounceStatus,
    ErrorContext,
    EventContext,
    ExecuteContext,
    FlushResult,
    IdleContext,
    JobSummary,
    PauseResult,
    RedriveResult,
    SendResult,
    ShownStatus,
    StartResult,
    SyncContinuous,
    SyncDebounce,
    SyncTask,
    Task,
    TaskJobStatus,
    TaskState,
    TerminateResult,
    TriggerResult,
    cron,
    every,
)


@dataclass
class Tokens:
    access: str


@dataclass
class Changed:
    field: str


@dataclass
class Changes:
    fields: list[str]


@dataclass
class Paid:
    amount: int


@dataclass
class Account:
    balance: int


app = Durable()
shop = Registry()


# --- Continuous ---------------------------------------------------------------------------------------------------


@app.continuous(state=Tokens, schedule=every("30m"), retry=Retry(3), timeout="1m", queue="slow")
async def refresher(ctx: ContinuousContext[Tokens]) -> None:
    assert_type(ctx.state, Tokens)
    assert_type(ctx.run_count, int)
    assert_type(ctx.scheduled_for, datetime | None)
    assert_type(ctx.previous_error, ErrorInfo | None)
    ctx.set_state(Tokens("new"))
    ctx.update_state(lambda tokens: Tokens(tokens.access + "!"))
    ctx.send(batcher, ctx.key, Changed("tokens"))
    ctx.set_state("new")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.update_state(lambda tokens: tokens.access)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    ctx.schedule("1h")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    ctx.terminate()


@shop.continuous(state=Tokens, schedule=cron("0 5 * * *"), start_immediately=False)
def sweeper(ctx: ContinuousContext[Tokens]) -> None: ...


@app.continuous(state=Tokens, schedule=every("30m"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def takes_another_state(ctx: ContinuousContext[Changes]) -> None: ...


async def continuous() -> None:
    assert_type(refresher, Continuous[Tokens])
    assert_type(sweeper, Continuous[Tokens])
    assert_type(await refresher.start("user", Tokens("old")), StartResult)
    assert_type((await refresher.start("user", Tokens("old"), wait=True)).status, ShownStatus)
    assert_type(await refresher.trigger("user"), TriggerResult)
    assert_type(await refresher.pause("user"), PauseResult)
    assert_type(await refresher.resume("user"), PauseResult)
    assert_type(await refresher.terminate("user", reason="left"), TerminateResult)
    assert_type(await refresher.status("user"), ContinuousStatus)
    assert_type(await refresher.state("user"), Tokens | None)

    await refresher.start("user", "old")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await refresher.start(7, Tokens("old"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.continuous(state=Tokens)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    app.continuous(state=Tokens, schedule="30m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.continuous(state=Tokens, schedule=every("1m"), dealy=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# --- Debounce -----------------------------------------------------------------------------------------------------


def collect(changes: Changes | None, event: Changed) -> Changes:
    return Changes([*(changes.fields if changes else []), event.field])


@app.debounce(event=Changed, state=Changes, reducer=collect, flush_after="10s", max_events=50, retry=Retry(5))
async def batcher(ctx: DebounceContext[Changes, Changed]) -> None:
    assert_type(ctx.state, Changes)
    assert_type(ctx.events, tuple[Changed, ...])
    assert_type(ctx.event_count, int)
    assert_type(ctx.flush_reason, str)
    assert_type(ctx.batch_id, str)
    assert_type(ctx.debounce_started_at, datetime)
    ctx.send(account, "a", Paid(len(ctx.events)), event_id=ctx.batch_id)
    ctx.send(account, "a", Changed("field"))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    ctx.send(refresher, "a", Changed("field"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ctx.set_state(Changes([]))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


@shop.debounce(event=Changed, flush_after=timedelta(seconds=5), window="last", max_wait="1m")
def latest(ctx: DebounceContext[Changed, Changed]) -> None:
    assert_type(ctx.state, Changed)


@app.debounce(event=Changed, flush_after=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def takes_another_event(ctx: DebounceContext[Paid, Paid]) -> None: ...


async def debounce() -> None:
    assert_type(batcher, Debounce[Changes, Changed])
    assert_type(latest, Debounce[Changed, Changed])
    assert_type(await batcher.add("contact-7", Changed("email")), AddResult)
    assert_type(await batcher.add("contact-7", Changed("email"), event_id="e", on_duplicate="raise"), AddResult)
    assert_type(await batcher.add("contact-7", Changed("email"), wait=True, timeout="5s"), AddResult)
    assert_type((await batcher.add("contact-7", Changed("email"))).will_flush_at, datetime | None)
    assert_type(await batcher.flush("contact-7"), FlushResult)
    assert_type(await batcher.clear("contact-7"), ClearResult)
    assert_type(await batcher.redrive("contact-7"), RedriveResult)
    assert_type(await batcher.status("contact-7"), DebounceStatus)
    assert_type(await batcher.events("contact-7"), list[Changed])
    assert_type(await batcher.state("contact-7"), Changes | None)

    await batcher.add("contact-7", Paid(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await batcher.add("contact-7", "email")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await batcher.add("contact-7")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await batcher.add("k", Changed("f"), on_duplicate="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await batcher.terminate("contact-7")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    app.debounce(event=Changed)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.debounce(event=Changed, flush_after=1, window="middle")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    app.debounce(event=Paid, state=Changes, reducer=collect, flush_after=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.debounce(event=Changed, state=Changes, flush_after=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


# --- Task ---------------------------------------------------------------------------------------------------------

account = app.task_job("account", state=Account, event=Paid, dedupe_window="1h")


@account.on_event
async def paid(ctx: EventContext[Account, Paid], event: Paid) -> None:
    assert_type(ctx.state, Account | None)
    assert_type(ctx.event, Paid)
    assert_type(ctx.event_id, str | None)
    assert_type(ctx.is_first_event, bool)
    assert_type(ctx.scheduled_at, datetime | None)
    ctx.set_state(Account(event.amount))
    ctx.update_state(lambda account: Account(account.balance + event.amount))
    ctx.schedule("1h")
    ctx.schedule(timedelta(hours=1))
    ctx.schedule(datetime.now(UTC))
    ctx.set_state(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert ctx.state.balance  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    ctx.schedule(b"1h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@account.execute
def settle(ctx: ExecuteContext[Account]) -> None:
    assert_type(ctx.execute_count, int)
    assert_type(ctx.scheduled_for, datetime | None)


@account.on_idle
async def idle(ctx: IdleContext[Account]) -> None:
    assert_type(ctx.idle_reason, str)


@account.on_error
async def failed(ctx: ErrorContext[Account], error: Exception) -> None:
    assert_type(ctx.attempted_state, Account | None)
    assert_type(ctx.error_source, str)


other = shop.task_job("other", state=Account, event=Paid)


@other.on_event  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def takes_another_kind_of_event(ctx: EventContext[Account, Changed], event: Changed) -> None: ...


@other.execute  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
async def takes_an_event_too(ctx: ExecuteContext[Account], event: Paid) -> None: ...


async def task(ctx: EventContext[Account, Paid]) -> None:
    assert_type(account, Task[Account, Paid])
    await paid(ctx, Paid(1))
    await paid(ctx, Changed("f"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await account.send("a", Paid(1)), SendResult)
    assert_type(await account.send("a", Paid(1), event_id="e", wait=True, timeout=5), SendResult)
    assert_type(await account.trigger("a"), TriggerResult)
    assert_type(await account.terminate("a"), TerminateResult)
    assert_type(await account.redrive("a"), RedriveResult)
    assert_type(await account.status("a"), TaskJobStatus)
    assert_type(await account.state("a"), TaskState[Account])
    assert_type((await account.state("a")).state, Account | None)

    await account.send("a", Changed("f"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await account.send("a", Paid(1), 1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    app.task_job("account", state=Account)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# --- all kinds ----------------------------------------------------------------------------------------------------


async def listing() -> None:
    assert_type(await app.jobs.list(kind="task", status="active", limit=10), list[JobSummary])
    assert_type(await app.jobs.count(name="account"), int)
    takes_any: Callable[[str], Awaitable[Any]] = account.status
    await takes_any("a")


def blocking() -> None:
    with app.client() as client:
        assert_type(client.job(refresher), SyncContinuous[Tokens])
        assert_type(client.job(batcher), SyncDebounce[Changes, Changed])
        assert_type(client.job(account), SyncTask[Account, Paid])
        assert_type(client.job(refresher).start("user", Tokens("old")), StartResult)
        assert_type(client.job(refresher).state("user"), Tokens | None)
        assert_type(client.job(batcher).add("contact-7", Changed("email"), event_id="e"), AddResult)
        assert_type(client.job(batcher).events("contact-7"), list[Changed])
        assert_type(client.job(account).send("a", Paid(1), wait=True), SendResult)
        assert_type(client.job(account).state("a"), TaskState[Account])
        assert_type(client.jobs.list(), list[JobSummary])

        client.job(batcher).add("contact-7", Paid(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        client.job(account).send("a", Changed("f"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        client.job("account")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
