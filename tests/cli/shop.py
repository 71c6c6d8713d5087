"""The app that the tests of `durable executor` run in a process of its own."""

import asyncio
import os
import signal
import sys
import threading

from durable import Durable, TaskContext

app = Durable(schema=os.environ["SCHEMA"])
number = 7


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.task
async def quick() -> None:
    say("quick ran")


@app.task(queue="mail")
async def mail() -> None:
    say("mail ran")


@app.task
def until_shutdown(ctx: TaskContext) -> str:
    say("began")
    ctx.shutdown_signal.wait()
    return "finished"


@app.task
async def endless() -> None:
    say("began")
    await asyncio.Event().wait()


@app.task
async def blocking() -> None:
    say("began")
    threading.Event().wait()


@app.task
def forking() -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # so that a child that the signal does not end, ends
        os.write(write, b"x")
        while True:
            signal.pause()
    os.read(read, 1)
    os.kill(child, signal.SIGTERM)
    say(f"the child ended by signal {os.WTERMSIG(os.waitpid(child, 0)[1])}")
