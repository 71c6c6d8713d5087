"""The updates of one workflow in memory: which are accepted, which run, and what is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from durable.codec import Codec
from durable.errors import ErrorInfo
from durable.workflow.requests import Update
from durable.workflow_rows import Message

__all__ = ["Answer", "Updates", "answer_key"]


_within: Final[ContextVar[bool]] = ContextVar("durable_within_update", default=False)


def answer_key(message_id: str) -> str:
    """Under which the answer is published; no key of a user's begins with `#`."""
    return f"#{message_id}"


class Answer(NamedTuple):
    """What came of an update. Stored as JSON, whose texts are as the codec has made them."""

    output: str | None
    error: str | None
    is_refused: bool

    def to_text(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def from_text(cls, text: str) -> Answer:
        return cls(**json.loads(text))


class Updates:
    """Handlers run in the loop of the body, as tasks of their own."""

    def __init__(self, handlers: Mapping[str, Update[..., Any]], codec: Codec) -> None:
        self._handlers = handlers
        self._codec = codec
        self.context: Any = None
        """What handlers and validators get as their first argument."""
        self.is_open = bool(handlers)
        """False where the body has ended, or no handler is there: what comes then is not met."""
        self.running: dict[asyncio.Task[Any], str] = {}
        """With the names of their updates."""

    def judge(self, message: Message) -> str | None:
        """Ask the validator; the stored error of a refusal, None: it is accepted."""
        update = self._handlers.get(message.name)
        if update is None:
            known = ", ".join(sorted(self._handlers))
            unknown = ErrorInfo("UnknownUpdate", f"the workflow's code has none of that name; it has {known}", False)
            return self._codec.dump_error(unknown, is_retryable=False)
        try:
            args, kwargs = update.signature.load(message.payload)
            if update.validate is not None:
                update.validate(self.context, *args, **kwargs)
        except Exception as error:
            return self._codec.dump_error(error, is_retryable=False)
        return None

    def knows(self, name: str) -> bool:
        return name in self._handlers

    def start(self, name: str, payload: str) -> Coroutine[Any, Any, str]:
        """Run a handler; gives the stored form of its result."""
        return self._run(self._handlers[name], payload)

    @property
    def is_within(self) -> bool:
        """Asked inside a handler, or a task that one has started."""
        return _within.get()

    async def _run(self, update: Update[..., Any], payload: str) -> str:
        _within.set(True)
        args, kwargs = update.signature.load(payload)
        result = await update(self.context, *args, **kwargs)
        return update.signature.result.dump(result, "result")

    def answer(self, task: asyncio.Task[str]) -> Answer:
        """Of a handler that has ended."""
        name = self.running.pop(task)
        if task.cancelled():
            ended = ErrorInfo("cancelled", f"the workflow ended before update {name!r} was done", is_retryable=False)
            return Answer(None, self._codec.dump_error(ended, is_retryable=False), False)
        error = task.exception()
        if error is not None:
            return Answer(None, self._codec.dump_error(error, is_retryable=False), False)
        return Answer(task.result(), None, False)

    async def finish(self) -> None:
        """Let no more come, and wait for those that run."""
        self.is_open = False
        while self.running:
            await asyncio.wait(list(self.running))

    async def stop(self) -> None:
        """Let no more come, and cancel those that run; those that then wait for what never comes are left alone."""
        for task in list(self.running):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await self.finish()
