"""What stands before a server's application: whom it answers, and how much it listens to.

A body is read here, to its end or to its limit, so that the application sees whole bodies only. One
that is too large is read on for a moment and thrown away: who still writes does not hear an answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from eqprop_lab.deploy.metrics import Metrics
from eqprop_lab.deploy.questions import Refused, errors

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
LISTENING = 5.0  # seconds for the rest of a body that is too large
OTHERS = "other"  # paths there are not, in the metrics: there is no end of them
HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
}


def refusal(error: Refused) -> tuple[int, bytes]:
    """(status, JSON) of an answer that says what was wrong."""
    return error.status, json.dumps(errors((error.field, error.message))).encode()


class Guard:
    """The application behind its limits.

    hosts: names that a request may be for (None: any), so that no page of another site reaches a
    server of this machine under a name of its own. paths: those that are counted by name.
    """

    def __init__(
        self,
        app: App,
        metrics: Metrics,
        body: int,
        seconds: float,
        hosts: Collection[str] | None,
        paths: Collection[str],
    ) -> None:
        self.app, self.metrics, self.body, self.seconds = app, metrics, body, seconds
        self.hosts, self.paths = hosts, paths

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS.items()]}
            await send(message)

        try:
            self._check_host(scope)
            body = await self._body(scope, receive, start + self.seconds)
            await self.app(scope, _replayed(body, receive), sending)
        except Refused as error:
            await _refuse(error, sending)
        finally:
            path = scope["path"] if scope["path"] in self.paths else OTHERS
            self.metrics.request(path, status, time.monotonic() - start)

    def _check_host(self, scope: dict[str, Any]) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.hosts is not None and name not in self.hosts:
            raise Refused(400, "host", f"must be one of {', '.join(sorted(self.hosts))}")

    async def _body(self, scope: dict[str, Any], receive: Receive, deadline: float) -> bytes:
        headers = dict(scope["headers"])
        size = headers.get(b"content-length", b"0")
        waits = headers.get(b"expect", b"").lower() == b"100-continue"
        if waits and size.isdigit() and int(size) > self.body:
            raise self._too_large()
        body = bytearray()
        more = True
        while more:
            message = await _in_time(receive, deadline)
            if message["type"] == "http.disconnect":
                raise Refused(400, "body", "must be sent to its end")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.body:
                body.clear()
                await _drained(receive, more)
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, "body", f"must be at most {self.body} bytes")


async def _in_time(receive: Receive, deadline: float) -> Message:
    try:
        return await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
    except TimeoutError as error:
        raise Refused(408, "body", "must arrive within the time limit") from error


async def _drained(receive: Receive, more: bool) -> None:
    """Read to the end of a body, or as far as it goes in a moment."""
    deadline = time.monotonic() + LISTENING
    try:
        while more:
            more = (await _in_time(receive, deadline)).get("more_body", False)
    except Refused:
        pass


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` with the body that has been read already."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


async def _refuse(error: Refused, send: Send) -> None:
    status, text = refusal(error)
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(text)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
