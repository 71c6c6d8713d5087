"""An agent answers questions about a text: it calls tools by durable steps and streams its answer, word by word.

Shows a loop whose every decision and tool call is stored once, a step that streams what it says while it says it, and a
reader of that stream. The model is a stand-in of a few lines; the text is this example's own README. Run it with
`python -m examples.agent`.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from durable import Durable, Retry, TaskContext, WorkflowContext, constant, step

app = Durable()
TEXT = Path(__file__).parent.parent / "README.md"


@dataclass(frozen=True)
class Turn:
    """What the model says next: a tool to call, or the answer."""

    tool: str | None
    about: str


async def count(word: str) -> str:
    found = re.findall(rf"\b{re.escape(word)}\b", TEXT.read_text(encoding="utf-8"), re.IGNORECASE)
    return f"the text has {word!r} {len(found)} times"


async def quote(word: str) -> str:
    sentences = re.split(r"(?<=[.:])\s+", TEXT.read_text(encoding="utf-8"))
    return next((" ".join(s.split()) for s in sentences if word.lower() in s.lower()), f"nothing about {word!r}")


TOOLS = {"count": count, "quote": quote}


@step(retry=Retry(3, constant("100ms")))
async def think(question: str, notes: list[str]) -> Turn:
    """The stand-in for a model: first it counts the longest word of the question, then it quotes, then it answers."""
    word = max(re.findall(r"\w+", question), key=len)
    return Turn(["count", "quote"][len(notes)], word) if len(notes) < 2 else Turn(None, word)


@step
async def speak(ctx: TaskContext, notes: list[str]) -> str:
    """As a model would give its tokens; whoever reads `handle.stream()` has each at once."""
    answer = "; ".join(notes)
    for word in answer.split():
        ctx.emit(word)
        await asyncio.sleep(0)
    return answer


@app.workflow
async def agent(ctx: WorkflowContext, question: str) -> str:
    notes: list[str] = []
    while (turn := await ctx.step(think, question, notes)).tool is not None:
        ctx.publish("doing", f"{turn.tool} {turn.about}")
        notes.append(await ctx.step(TOOLS[turn.tool], turn.about))
    return await ctx.step(speak, notes)


async def main() -> tuple[str, str]:
    """The answer as it was streamed, and as it was returned."""
    async with app.executor(poll_interval="50ms"), asyncio.timeout(60):
        handle = await agent.enqueue("What does Postgres do here?")
        words: list[str] = []
        async for piece in handle.stream(str):
            print(piece.value, end=" ", flush=True)
            words.append(piece.value)
        print()
        return " ".join(words), await handle.result()


if __name__ == "__main__":
    asyncio.run(main())
