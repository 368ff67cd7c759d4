"""Networks behind HTTP: POST /predict, POST /generate, GET /health, /metrics, /openapi.json, /.

    python -m eqprop_lab serve digits_conv
    with serving("digits_conv") as url: ...      the same in a thread, for a notebook

An answer says how well its state has settled, {classes, logits, residual, steps, converged,
error_bound, model, weights_sha256}; with `strict` one that has not is refused. For this machine
alone unless a host is named: there is no login. Packages: the extra `serve`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from torch import nn

from eqprop_lab.deploy.answers import Limits, Served
from eqprop_lab.deploy.opening import Opened, open_model
from eqprop_lab.lazy import optional
from eqprop_lab.modules import evaluated
from eqprop_lab.validation import integer, known_keys, real, shown

if TYPE_CHECKING:
    from fastapi import FastAPI

Models = str | nn.Module | Mapping[str, Any]
HERE = ("localhost", "127.0.0.1", "[::1]", "testserver")
ANYWHERE = ("", "0.0.0.0", "::")
GRACE = 10  # seconds for what is in work when it is told to stop
START = 60.0
NEEDED = "serving", "'eqprop_lab[serve]'"


def make_app(models: Models, host: str = "127.0.0.1", **limits: Any) -> FastAPI:
    """The ASGI application, for a server of one's own.

    Args:
        models: a network, a name that `open_model` knows, or {name: one of these}; they are put
            into eval mode, and nobody may train them while they are served.
        host: by which it is asked for; requests for other names than this one and localhost are
            refused. An address that stands for all ("0.0.0.0") takes any.
        limits: those of `answers.Limits`.
    Raises: TypeError, ValueError naming the argument; ImportError without the extra `serve`.
    """
    allowed = _limits(limits)
    served = _served(models)
    if not isinstance(host, str):
        raise TypeError(f"host must be a name or an address, got {shown(host)}")
    web = optional("eqprop_lab.deploy.web", *NEEDED)
    hosts = None if host in ANYWHERE else {*HERE, f"[{host}]" if ":" in host else host}
    app: FastAPI = web.application(served, allowed, hosts)
    return app


def serve(models: Models, host: str = "127.0.0.1", port: int = 8000, **limits: Any) -> None:
    """Serve until SIGINT or SIGTERM, then let what is in work come to its end, for ten seconds.

    Args: as in `make_app`; port: 0 takes one that is free.
    Raises: as `make_app`; OSError for an address that cannot be had.
    """
    app = make_app(models, host, **limits)
    server = _server(app)
    with _bound(host, port) as sock:
        print(f"serving at http://{_address(sock)}/ (Ctrl-C stops)", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            # uvicorn raises it once more when it is done
            signal.signal(number, lambda *_: None)
        server.run(sockets=[sock])


@contextmanager
def serving(models: Models, port: int = 0, **limits: Any) -> Iterator[str]:
    """The same in a thread, while the body runs; gives the address, "http://127.0.0.1:PORT".

    Networks are in the mode they had afterwards. Args and errors as `serve`.
    """
    with ExitStack() as modes:
        for model in _networks(models):
            modes.enter_context(evaluated(model))
        with _thread(_server(make_app(models, **limits)), port) as url:
            yield url


def _networks(models: object) -> list[nn.Module]:
    given = models.values() if isinstance(models, Mapping) else [models]
    found = [model.model if isinstance(model, Opened) else model for model in given]
    return [model for model in found if isinstance(model, nn.Module)]


@contextmanager
def _thread(server: Any, port: int) -> Iterator[str]:
    with _bound("127.0.0.1", port) as sock:
        thread = threading.Thread(target=server.run, args=([sock],), name="serving", daemon=True)
        thread.start()
        try:
            _wait(server, thread)
            yield f"http://{_address(sock)}"
        finally:
            server.should_exit = True
            thread.join()


def _wait(server: Any, thread: threading.Thread) -> None:
    end = time.monotonic() + START
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise RuntimeError("the server did not start")
        time.sleep(0.005)


def _server(app: FastAPI) -> Any:
    uvicorn = optional("uvicorn", *NEEDED)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def _bound(host: str, port: int) -> socket.socket:
    number = integer("port", port, at_least=0, at_most=65535)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP: asyncio takes Nagle's delay (40 ms an answer) off such sockets alone.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, number))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        text = f"{error.strerror or error} ({host}:{number})"
        raise OSError(error.errno, text) from error
    return sock


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _limits(given: Mapping[str, Any]) -> Limits:
    known_keys("the limits", given, [field.name for field in fields(Limits)])
    checked: dict[str, Any] = {
        name: real(name, value, above=0.0) if name == "seconds" else integer(name, value)
        for name, value in given.items()
    }
    return Limits(**checked)


def _served(models: Models) -> dict[str, Served]:
    if isinstance(models, nn.Module):
        models = {type(models).__name__: models}
    if isinstance(models, str):
        models = {"": models}
    if not isinstance(models, Mapping) or not models:
        raise TypeError(
            f"models must be a network, the name of one, or {{name: network}}, got {shown(models)}"
        )
    found: dict[str, Served] = {}
    for name, model in models.items():
        served = _one(name, model)
        if served.name in found:
            raise ValueError(f"models must have different names, got {served.name!r} twice")
        found[served.name] = served
    return found


def _one(name: object, model: object) -> Served:
    if not isinstance(name, str):
        raise TypeError(f"models must have texts for names, got {shown(name)}")
    if isinstance(model, nn.Module):
        return Served(name, model)
    if not isinstance(model, str | Opened):
        raise TypeError(f"models[{name!r}] must be a network or a name, got {shown(model)}")
    opened = model if isinstance(model, Opened) else open_model(model)
    return Served(name or opened.name, opened.model, opened.trained)
