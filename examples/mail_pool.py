"""Send mails through a pool: so many a second over all executors, and one at a time for each recipient, in order.

Shows a rate limit, `serial_key`, and mails stored all or none. The mail server is a small one on loopback.
Run it with `python -m examples.mail_pool`.
"""

from __future__ import annotations

import asyncio
import smtplib
import time
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial

from durable import Durable, Rate, Retry, exponential

app = Durable()
RATE = Rate(1, per="50ms")  # 20 a second, evenly; Rate(20, per="1s") would let 20 go at once after a quiet time
mail_pool = app.pool("mail", max_parallelism=4, max_per_key=1, rate=RATE, retry=Retry(5, exponential("1s")))


@dataclass
class Mail:
    port: int
    recipient: str
    subject: str


@dataclass
class Report:
    received: list[tuple[str, str]]
    """Recipient and subject, as the server got them."""
    seconds: float


@mail_pool.task(timeout="30s")
def send_mail(mail: Mail) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.org", mail.recipient, mail.subject
    with smtplib.SMTP("127.0.0.1", mail.port, local_hostname="localhost", timeout=10) as server:
        server.send_message(message)


async def smtp(received: list[tuple[str, str]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks as much SMTP as smtplib needs: an answer to each line, and to a mail as a whole."""
    writer.write(b"220 ready\r\n")
    while line := await reader.readline():
        word = line[:4].strip().upper()
        if word == b"DATA":
            writer.write(b"354 go on\r\n")
            text = (await reader.readuntil(b"\r\n.\r\n")).decode()
            headers = dict(header.split(": ", 1) for header in text.splitlines() if ": " in header)
            received.append((headers["To"], headers["Subject"]))
        writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
        if word == b"QUIT":
            break
    writer.close()


async def main(count: int = 40) -> Report:
    received: list[tuple[str, str]] = []
    server = await asyncio.start_server(partial(smtp, received), "127.0.0.1")
    port: int = server.sockets[0].getsockname()[1]
    mails = [Mail(port, f"{'abcd'[number % 4]}@example.org", f"mail {number}") for number in range(count)]
    async with server, app.executor(), asyncio.timeout(60):
        began = time.monotonic()
        handles = await app.enqueue_calls([send_mail.child(mail, serial_key=mail.recipient) for mail in mails])
        await app.wait(handles)
        report = Report(received, time.monotonic() - began)
    print(f"{len(received)} mails in {report.seconds:.1f} s: {len(received) / report.seconds:.1f} a second")
    return report


if __name__ == "__main__":
    asyncio.run(main())
