"""What a workflow's body may ask for. Every call that awaits is answered from the history when the body is replayed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from random import Random
from threading import get_ident
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, cast, overload
from uuid import UUID

from durable.checks import shown
from durable.child import DEEPEST_TREE, Child
from durable.codec import Codec
from durable.context import TaskContext
from durable.definition import Definition
from durable.digests import digest
from durable.durations import Duration, aware, seconds
from durable.errors import ChildFailed, ChildLimitExceeded, ConfigurationError
from durable.execution import Claimed, FinishedExecution, Status
from durable.ids import known_id
from durable.retry import NO_RETRY, Retry, checked_retry
from durable.returns import ChildResult
from durable.task import Task, Typed
from durable.workflow.approval import Approval, ApprovalDecision, OpenedApproval, load_decision
from durable.workflow.asks import NO_ASKS, Asks
from durable.workflow.awaiting import ChildCall, shielded, started
from durable.workflow.desk import Desk, checked_people
from durable.workflow.entries import Group, RunStep, Send, Sleep, Start, StartChild, WaitMessage
from durable.workflow.map_plan import plan_map
from durable.workflow.names import checked_name
from durable.workflow.replay import Replay
from durable.workflow.step import StepPlan, StepPlans
from durable.workflow.telling import UNDOING
from durable.workflow.undoing import Carried, Compensation, Undoing
from durable.workflow.updates import Updates
from durable.workflow.values import dump_value

__all__ = ["ContinueAsNew", "WorkflowContext"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
A = TypeVar("A")


class ContinueAsNew(BaseException):
    """Raised by `ctx.continue_as_new`; nothing between it and the end of the body should catch it."""

    def __init__(self, stored_input: str) -> None:
        self.stored_input = stored_input
        self.undo: list[Carried] = []
        """What the next run is to undo if it fails."""
        super().__init__("the workflow continues as new")


class WorkflowContext:
    """Given to a workflow's body as its first argument. Valid while the body runs."""

    _asks = NO_ASKS

    def __init__(
        self,
        replay: Replay,
        claimed: Claimed,
        definition: Definition,
        plans: StepPlans,
        updates: Updates,
        undoing: Undoing,
        desk: Desk | None,
    ) -> None:
        self._replay = replay
        self._claimed = claimed
        self._definition = definition
        self._plans = plans
        self.undoing = undoing
        self.state: dict[str, Any] = {}
        """For the body and its update handlers to share; kept in memory alone, and built anew by a replay."""
        self.updates = updates
        self._desk = desk
        self._approval_counts: dict[str, int] = {}

    @property
    def _codec(self) -> Codec:
        return self._definition.codec

    @property
    def _inside(self) -> Replay:
        """For what only the body and its updates may do: a step or a validator is not run again by a replay."""
        if self._replay.thread != get_ident():
            raise ConfigurationError("a workflow's context is for its body: a step returns, or takes a TaskContext")
        return self._replay

    # --- what it is -----------------------------------------------------------------------------------------

    @property
    def execution_id(self) -> str:
        return self._claimed.id

    @property
    def root_id(self) -> str:
        return self._claimed.root_id

    @property
    def parent_id(self) -> str | None:
        return self._claimed.parent_id

    @property
    def version(self) -> int:
        """The `version=` of the definition when the workflow was enqueued."""
        return self._claimed.task_version

    @property
    def iteration(self) -> int:
        """How often it has continued as new."""
        return self._claimed.iteration

    @property
    def is_replaying(self) -> bool:
        """True while the body does what it has done before; for logs."""
        return self._replay.is_replaying

    def now(self) -> datetime:
        """The moment of the last thing that happened to the workflow, by the storage's clock; the same in a replay."""
        return self._replay.now

    @property
    def random(self) -> Random:
        """A source of random numbers that gives the same ones in every replay."""
        return self._inside.random

    def uuid(self) -> UUID:
        """A random UUID; the same in a replay."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def patched(self, patch_id: str) -> bool:
        """True if the new code is to run: always but for workflows with an entry from behind here before the change.

        Leave the call while any such workflow lives; its answer is stored, and the same in every replay.
        """
        return self._inside.patched(checked_name(patch_id, "patch_id"))

    # --- steps ----------------------------------------------------------------------------------------------

    @overload
    async def step(self, function: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def step(
        self, function: Callable[Concatenate[TaskContext, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def step(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def step(
        self, function: Callable[Concatenate[TaskContext, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    async def step(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function once and for all: its result is stored before this returns, and it never runs again.

        It may run more than once before that, as after a crash. A sync function runs in a thread. Of a task, its
        retry policy and timeout count. Its key is its name and how many steps of that name there were before. Raises
        StepFailed when it has failed for good.
        """
        return await self._step(self._plans[function], args, kwargs)

    async def transaction(
        self, function: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """A step whose first argument is a psycopg AsyncConnection in a transaction: its writes happen exactly once.

        What it writes and its result are committed together, or neither. It must not commit by itself. On a storage
        without transactions the connection is None. Raises ConfigurationError for what is no `async def`.
        """
        plan = self._plans[function]
        if not plan.is_async:
            given = repr(plan.name) if plan.name else "a lambda"
            raise ConfigurationError(
                f"transaction takes an async def, and {given} is none: its connection is an AsyncConnection; make it "
                "an async def, or give a def to ctx.step, with a connection that it opens itself"
            )
        return await self._step(plan, args, kwargs, is_transaction=True)  # type: ignore[no-any-return]

    def with_options(
        self, *, name: str | None = None, retry: Retry | None = None, timeout: Duration | None = None
    ) -> WorkflowContext:
        """The same context, whose `step`, `transaction` and `on_rollback` have this name, policy and timeout.

        Of `sleep`, `sleep_until` and `timeout` it is the name. What is not given stays as the context has it. Raises
        ConfigurationError for bad options; so do calls that would do nothing with them, such as `child`.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._asks = self._asks.merged(
            Asks(
                None if name is None else checked_name(name, "name"),
                checked_retry(retry),
                None if timeout is None else seconds(timeout, "timeout", minimum=0.001),
            )
        )
        return other

    def on_rollback(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Undo what has been done: if the workflow fails, is cancelled or times out, this runs as a step of its own.

        What was registered last runs first, all of it, also where one fails. A run that continues as new takes it
        along, if it is a task. Raises ConfigurationError for what cannot be a step.
        """
        plan = self._asks.on(self._plans[function])
        self._inside.spoken.note("undo", plan.name, args, kwargs)
        self.undoing.register(Compensation(plan, args, kwargs, self._asks))

    def forget_rollback(self) -> None:
        """What was registered by `on_rollback` until now stays done, whatever happens."""
        self._inside.spoken.note("forget")
        self.undoing.forget()

    async def roll_back(self) -> list[Exception]:
        """Run what is registered, and forget it; gives the errors of what failed."""
        failed: list[Exception] = []
        while (undo := self.undoing.take_last()) is not None:
            try:
                await self._step(undo.plan, undo.args, dict(undo.kwargs), prefix=UNDOING)
            except Exception as error:
                failed.append(error)
        return failed

    def _step(
        self,
        plan: StepPlan,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        prefix: str = "",
        is_transaction: bool = False,
        is_ours: bool = False,
    ) -> asyncio.Future[Any]:
        if not is_ours and (self._asks is not NO_ASKS or not plan.name):
            plan = self._asks.on(plan)
        name = prefix + plan.name
        command = RunStep(plan, name, args, kwargs, digest(args, kwargs), is_transaction)
        return self._inside.issue(name, command)

    def _named(self, call: str) -> str:
        """The name of a call that has no other options."""
        self._asks.refuse(call, takes_name=True)
        return self._asks.name or call

    # --- time -----------------------------------------------------------------------------------------------

    async def sleep(self, duration: Duration) -> None:
        """Wait. Nothing is held meanwhile, and a restart does not begin the time anew."""
        await self._inside.issue(self._named("sleep"), Sleep(seconds(duration, "duration"), None))

    async def sleep_until(self, at: datetime) -> None:
        """As sleep; a moment that has passed is over at once."""
        await self._inside.issue(self._named("sleep"), Sleep(None, aware(at, "at")))

    @asynccontextmanager
    async def timeout(self, duration: Duration) -> AsyncGenerator[None]:
        """Raise TimeoutError if the block takes longer; what it waits for is cancelled."""
        limit = seconds(duration, "duration")
        waiting = asyncio.current_task()
        assert waiting is not None
        cancelled_before = waiting.cancelling()
        timer = self._inside.issue(self._named("timeout"), Sleep(limit, None))
        is_over = False

        def stop(done: asyncio.Future[Any]) -> None:
            nonlocal is_over
            if not done.cancelled():
                is_over = True
                waiting.cancel()

        timer.add_done_callback(stop)
        try:
            yield
        except asyncio.CancelledError:
            # Beside this timeout others may have cancelled the task: then it is theirs.
            if is_over and waiting.cancelling() - 1 <= cancelled_before:
                raise TimeoutError(f"the block took longer than {limit:g} s") from None
            raise
        finally:
            if is_over:
                waiting.uncancel()
            timer.remove_done_callback(stop)
            timer.cancel()

    # --- messages -------------------------------------------------------------------------------------------

    async def wait_signal(self, name: str, shape: type[T], *, timeout: Duration | None = None) -> T:
        """The next signal of that name, also one that came before it was waited for; each is given once, in order.

        Raises TimeoutError after `timeout`, None waits for ever, and SerializationError for one that does not fit.
        """
        self._asks.refuse("wait_signal")
        checked = checked_name(name, "name")
        read = self._codec.value(shape, f"signal {checked!r}")
        command = WaitMessage(
            checked,
            lambda text: read.load(text, f"signal {checked!r}"),
            None if timeout is None else seconds(timeout, "timeout"),
        )
        return await self._inside.issue(f"signal:{checked}", command)  # type: ignore[no-any-return]

    async def signals(self, name: str, shape: type[T]) -> AsyncIterator[T]:
        """All signals of that name, one after another, for ever; leave the loop with break.

        One that does not fit raises SerializationError and ends it; `wait_signal` can be called again after that.
        """
        while True:
            yield await self.wait_signal(name, shape)

    async def signal(self, execution_id: str, name: str, value: Any = None) -> None:
        """Send a signal to another workflow, once. One that has ended, or is none, does not get it.

        Raises ConfigurationError for what is no execution id, or no name, and SerializationError.
        """
        self._asks.refuse("signal")
        checked = checked_name(name, "name")
        receiver = known_id(execution_id) if isinstance(execution_id, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if receiver is None:
            raise ConfigurationError(f"execution_id is {shown(execution_id)}, which is no id of an execution")
        payload = dump_value(self._codec, value, f"signal {checked!r}")
        await self._inside.issue(f"send:{checked}", Send(receiver, checked, payload, digest((execution_id, value))))

    # --- approvals ------------------------------------------------------------------------------------------

    async def approval(
        self,
        name: str,
        *,
        allowed: Collection[str] | None = None,
        expires: Duration | None = None,
        details: Any = None,
    ) -> Approval:
        """Ask people for something; they decide by `app.approvals`, and `await approval.decision()` gives what.

        `allowed` are those who may decide, None whoever has `approval.token`. After `expires` it has expired, None
        never. `details` are shown to who decides. It is there when this returns, and once, also after a crash.
        """
        self._asks.refuse("approval")
        checked = checked_name(name, "name")
        who = None if allowed is None else checked_people(allowed)
        ends = None if expires is None else seconds(expires, "expires", minimum=0.001)
        said = None if details is None else dump_value(self._codec, details, "details")
        count = self._approval_counts[checked] = self._approval_counts.get(checked, 0) + 1
        key = f"{self._claimed.iteration}/{checked}#{count}"

        async def ask() -> OpenedApproval:
            assert self._desk is not None, "a replay that touches nothing runs no step"
            token = secrets.token_urlsafe(32)
            return await self._desk.open(key, checked, token, who, said, ends)

        opened: OpenedApproval = await self._ask(f"approval:{checked}", ask, OpenedApproval)
        return Approval(checked, opened, self._wait_for(opened), self._settle(checked, opened))

    def _wait_for(self, opened: OpenedApproval) -> Callable[[str, str], asyncio.Future[Any]]:
        def wait(name: str, message: str) -> asyncio.Future[Any]:
            load = partial(load_decision, self._codec)
            return self._inside.issue(f"decision:{name}", WaitMessage(message, load, None, opened.expires_at))

        return wait

    def _settle(self, name: str, opened: OpenedApproval) -> Callable[[], asyncio.Future[Any]]:
        async def expire(approval_id: str) -> ApprovalDecision:
            assert self._desk is not None, "a replay that touches nothing runs no step"
            return await self._desk.expire(approval_id)

        return lambda: self._ask(f"expire:{name}", expire, ApprovalDecision, opened.id)

    def _ask(
        self, name: str, function: Callable[..., Awaitable[Any]], shape: type[Any], *args: str
    ) -> asyncio.Future[Any]:
        """A step of our own."""
        plan = StepPlan(
            name, function, self._codec.value(shape, name), NO_RETRY, None, wants_context=False, is_async=True
        )
        return self._step(plan, args, {}, is_ours=True)

    # --- what others see ------------------------------------------------------------------------------------

    def publish(self, key: str, value: Any) -> None:
        """Let `handle.value(key)` give this value from the next checkpoint on."""
        checked = checked_name(key, "key")
        self._inside.spoken.note(checked, value)
        if self._replay.spoken.say():
            self._replay.outbox.values[checked] = dump_value(self._codec, value, f"published value {checked!r}")

    def emit(self, chunk: Any) -> None:
        """Add a piece to what `handle.stream()` gives, with the next checkpoint."""
        self._inside.spoken.note(chunk)
        if self._replay.spoken.say(is_piece=True):
            self._replay.outbox.chunks.append(dump_value(self._codec, chunk, "chunk"))

    # --- children -------------------------------------------------------------------------------------------

    @overload
    def child(self, call: Child[R], /) -> ChildCall[R]: ...
    @overload
    def child(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ChildCall[R]: ...
    def child(self, task: Any, /, *args: Any, **kwargs: Any) -> ChildCall[Any]:
        """Run a task or workflow as an execution of its own, on any executor; await it for its result.

        `ctx.child(ship, order)`, or `ctx.child(ship.child(order, priority=2))` with options. It ends with this
        workflow at the latest, unless it has `on_parent_close="abandon"`. Raises ChildFailed if it does not complete,
        and ChildLimitExceeded beyond 10,000 open children and 100 levels.
        """
        self._asks.refuse("child")
        call = cast("Child[Any]", task if isinstance(task, Child) else _known(task, "ctx.child").child(*args, **kwargs))
        digest = call.digest()  # now: what it was made from may change until it is awaited
        return ChildCall(lambda group: self._inside.issue(call.new.task_name, self._start_child(call, digest, group)))

    @overload
    async def start(self, call: Child[Any], /) -> str: ...
    @overload
    async def start(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str: ...
    async def start(self, task: Any, /, *args: Any, **kwargs: Any) -> str:
        """Start a task or workflow that goes its own way, exactly once; gives its execution id, and waits for no end.

        `ctx.start(mail, order)`, or `ctx.start(mail.child(order, delay="1h"))` with options. It is nobody's child: it
        is neither cancelled with this workflow nor counted, and `handle(id)` of its task gives a handle of it. Raises
        SleepingIdConflict for a sleeping task whose unique id is taken.
        """
        self._asks.refuse("start")
        call = cast("Child[Any]", task if isinstance(task, Child) else _known(task, "ctx.start").child(*args, **kwargs))
        new = call.new._replace(outlives_parent=False)
        return await self._inside.issue(f"start:{new.task_name}", Start(new, call.digest()))  # type: ignore[no-any-return]

    def _start_child(self, call: Child[Any], digest: str, group: Group) -> StartChild:
        self._check_depth()

        def read(end: FinishedExecution) -> Any:
            if end.status != Status.COMPLETED:
                error = None if end.error is None else self._codec.load_error(end.error)
                raise ChildFailed(call.new.task_name, end.id, str(end.status), error)
            text = end.output or "null"
            return self._codec.value(Any).load(text, "result") if call.load is None else call.load(text)

        return StartChild(call, read, group, self._claimed.id, digest)

    def _check_depth(self) -> None:
        if self._claimed.depth >= DEEPEST_TREE:
            raise ChildLimitExceeded(f"stands at level {self._claimed.depth} of its tree", DEEPEST_TREE)

    @overload
    async def gather(self, a: Awaitable[T1], /) -> tuple[T1]: ...
    @overload
    async def gather(self, a: Awaitable[T1], b: Awaitable[T2], /) -> tuple[T1, T2]: ...
    @overload
    async def gather(self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> tuple[T1, T2, T3]: ...
    @overload
    async def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    async def gather(self, *awaitables: Awaitable[T]) -> tuple[T, ...]: ...
    async def gather(self, *awaitables: Awaitable[Any]) -> tuple[Any, ...]:
        """The results of all, in the order given. The first error is raised when it comes, and cancels the others."""
        group = Group()
        waiting = [each.begin(group) if isinstance(each, ChildCall) else started(each) for each in awaitables]
        try:
            return tuple(await asyncio.gather(*waiting))
        finally:
            for each in waiting:
                each.cancel()

    @overload
    async def map(
        self,
        task: Typed[Callable[[A], R]],
        items: Iterable[A],
        *,
        concurrency: int = 100,
        tolerate_failures: None = None,
    ) -> list[R]: ...
    @overload
    async def map(
        self, task: Typed[Callable[[A], R]], items: Iterable[A], *, concurrency: int = 100, tolerate_failures: int | str
    ) -> list[ChildResult[R]]: ...
    async def map(
        self, task: Any, items: Iterable[Any], *, concurrency: int = 100, tolerate_failures: int | str | None = None
    ) -> list[Any]:
        """Run a child for each item, at most `concurrency` at a time; gives their results in the order of the items.

        `items` are looked at again after a restart, and must then be the same: what they are made from is an argument
        or a result of a step. They are read a wave at a time, so a generator's are never in memory together.

        With `tolerate_failures` (a number, or a share of all such as "5%") it gives a ChildResult for each item.
        Raises MapFailed and cancels the other children as soon as more have failed, without it when one has.
        """
        self._asks.refuse("map")
        self._check_depth()
        command = plan_map(
            cast("Task[..., Any]", task),
            items,
            parent=self._claimed,
            codec=self._codec,
            concurrency=concurrency,
            tolerate_failures=tolerate_failures,
        )
        return await self._inside.issue(f"map:{command.task_name}", command)  # type: ignore[no-any-return]

    async def wait_first(self, *awaitables: Awaitable[T]) -> T:
        """The result of whichever ends first, or its error; the others are cancelled."""
        if not awaitables:
            raise ConfigurationError("wait_first needs something to wait for")
        tasks = [started(each) for each in awaitables]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task for task in tasks if task in done).result()
        finally:
            for task in tasks:
                task.cancel()

    async def shield(self, awaitable: Awaitable[T]) -> T:
        """Let the awaitable come to its end also if the workflow is told to stop meanwhile, however often; then raise.

        An error of its own is then a note of the CancelledError. A cancel with `running="force"` waits for nothing.
        """
        return await shielded(awaitable)

    # --- the end --------------------------------------------------------------------------------------------

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run and begin again with other arguments and no history: the same execution, id and handle.

        Signals that were not waited for are kept, and so is what `on_rollback` has registered: the next run undoes it
        if it fails. That must be tasks; raises ConfigurationError for other functions, unless `forget_rollback` has let
        go of them. It may be called in a task of the body's that the body awaits, and in no handler of an update.
        Raises as enqueue does for bad arguments.
        """
        if self.updates.is_within:
            raise ConfigurationError(
                "a handler of an update cannot continue as new: let the body do it, told by ctx.state"
            )
        if self._inside.is_unwinding:
            raise ConfigurationError("the body has ended: what undoes and finalizes it cannot continue as new")
        self.undoing.carry()  # refused here, where the body can be seen; handlers of updates may still register more
        raise ContinueAsNew(self._definition.dump_input(args, kwargs))


def _known(task: Any, asked: str) -> Any:
    if isinstance(task, Task):
        return cast("Any", task)
    raise ConfigurationError(f"{asked} takes a task or a workflow, not a {type(task).__name__}: a function is a step")
