"""The application: paths, questions and answers of a server. Needs FastAPI (extra `serve`)."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from starlette.exceptions import HTTPException
from starlette.responses import Response

from eqprop_lab.deploy.answers import MOST_STEPS, STEPS, TOL, Limits, Served, check_time
from eqprop_lab.deploy.guard import Guard
from eqprop_lab.deploy.metrics import Metrics
from eqprop_lab.deploy.questions import Refused, errors
from eqprop_lab.validation import one_of, shown
from eqprop_lab.version import __version__

T = TypeVar("T")
SHOWN_ERRORS = 10
NEW_TOKENS = 100
LONGEST_PROMPT = 100_000  # characters
PATHS = ("/predict", "/generate", "/health", "/metrics", "/openapi.json", "/")
NDJSON = "application/x-ndjson"


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: StrictStr | None = Field(None, description="needed where several are served")


class PredictQuestion(_Question):
    """A batch, and how far it is to settle."""

    inputs: list[Any] = Field(
        description="numbers (B, ...), or tokens (B, T) or texts for a language model"
    )
    strict: StrictBool = Field(False, description="503 where the state did not settle")
    tol: float = Field(TOL, gt=0, lt=1, strict=True, description="relative residual to reach")
    max_steps: StrictInt = Field(STEPS, ge=1, le=MOST_STEPS)


class GenerateQuestion(_Question):
    """A text to go on from."""

    prompt: StrictStr = Field("", max_length=LONGEST_PROMPT)
    max_new_tokens: StrictInt | None = Field(None, ge=1, description="100, or what is allowed")
    temperature: float = Field(1.0, ge=0, strict=True)
    top_k: StrictInt | None = Field(None, ge=1)
    seed: StrictInt | None = Field(None, ge=0, lt=2**32)


class Answer(BaseModel):
    """null: a feed-forward network settles nothing, and few have a certificate."""

    classes: list[int]
    logits: list[list[float]]
    residual: float | None
    steps: int | None
    converged: bool | None
    error_bound: float | None = Field(description="certified l2 distance to the fixed point")
    model: str
    weights_sha256: str


class Fault(BaseModel):
    """Which field, and what is accepted."""

    field: str
    message: str


class Faults(BaseModel):
    """Why there is no answer."""

    errors: list[Fault]


class Piece(BaseModel):
    """A line of a text as it is written: pieces, and at the end `text` (or `errors`) alone."""

    piece: str | None = None
    text: str | None = None
    model: str | None = None
    weights_sha256: str | None = None
    errors: list[Fault] | None = None


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Faults, "description": text}
    for status, text in {
        408: "the body came too slowly",
        413: "the body is too large",
        422: "a value that is not accepted",
        503: "not settled (strict), too busy, or out of time",
    }.items()
}


class Room:
    """The threads that compute, and who waits for them."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self.pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="answers")

    async def run(self, work: Callable[[float], T]) -> T:
        """work(deadline) in a thread of the room. Raises Refused when it is full."""
        if self.metrics.waiting >= self.limits.waiting:
            raise Refused(503, "time", "the server is busy; ask again later")
        self.metrics.waiting += 1
        deadline = time.monotonic() + self.limits.seconds
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, work, deadline)
        finally:
            self.metrics.waiting -= 1


def application(
    models: Mapping[str, Served], limits: Limits, hosts: Collection[str] | None
) -> FastAPI:
    """See `serve.make_app`."""
    metrics = Metrics()
    room = Room(limits, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        room.pool.shutdown(cancel_futures=True)

    app = FastAPI(
        title="eqprop_lab",
        version=__version__,
        description=f"Networks that settle, as a service: {', '.join(models)}.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(
        Guard,
        metrics=metrics,
        body=limits.body,
        seconds=limits.seconds,
        hosts=hosts,
        paths=PATHS,
    )
    _answer_faults(app)
    _add_pages(app, models, metrics)
    _add_predict(app, models, room)
    _add_generate(app, models, room)
    return app


def _pick(models: Mapping[str, Served], name: str | None) -> Served:
    if name is None and len(models) == 1:
        return next(iter(models.values()))
    try:
        return models[one_of("model", name, models)]
    except ValueError as error:
        raise Refused(422, "model", str(error)) from error


def _add_predict(app: FastAPI, models: Mapping[str, Served], room: Room) -> None:
    @app.post("/predict", response_model=Answer, responses=REFUSALS)
    async def predict(question: PredictQuestion) -> Response:
        """Classes and logits of a batch, and how well its state has settled."""
        served, how = _pick(models, question.model), question
        if question.strict and served.inside:
            text = f"must be false for {served.name}: what settles inside it does not say how far"
            raise Refused(422, "strict", text)

        def work(deadline: float) -> dict[str, Any]:
            check_time(deadline)
            most = room.limits.batch
            return served.predict(how.inputs, deadline, most, how.tol, how.max_steps)

        answer = await room.run(work)
        if answer["converged"] is not None:
            room.metrics.relaxation(served.name, answer["steps"], answer["converged"])
        if question.strict and answer["converged"] is False:
            reached = f"residual {answer['residual']:.1e} after {answer['steps']} steps"
            raise Refused(503, "strict", f"did not settle to tol {question.tol:g}: {reached}")
        return JSONResponse(answer)


def _add_generate(app: FastAPI, models: Mapping[str, Served], room: Room) -> None:
    @app.post("/generate", response_model=Piece, responses=REFUSALS)
    async def generate(question: GenerateQuestion) -> Response:
        """Text from a language model: a line of JSON a piece, as soon as it is there."""
        served = _pick(models, question.model)
        options, most = question.model_dump(exclude={"model"}), room.limits.tokens
        count = options["max_new_tokens"] = question.max_new_tokens or min(NEW_TOKENS, most)
        if count > most:
            raise Refused(422, "max_new_tokens", f"must be at most {most}")
        text = _Text(served, options, room)
        first = await text.line()
        if isinstance(first, Refused):
            await text.task
            raise first
        return StreamingResponse(text.lines(first), media_type=NDJSON)


class _Text:
    """A text that a thread writes, line by line. Who hangs up ends it at the next token."""

    def __init__(self, served: Served, options: dict[str, Any], room: Room) -> None:
        self.served, self.options = served, options
        self.queue: asyncio.Queue[dict[str, Any] | Refused | None] = asyncio.Queue()
        self.loop, self.gone = asyncio.get_running_loop(), threading.Event()
        self.task = asyncio.ensure_future(self._all(room))

    async def _all(self, room: Room) -> None:
        try:
            last: dict[str, Any] | Refused = await room.run(self._written)
        except Refused as error:
            last = error
        except Exception:
            traceback.print_exc(file=sys.stderr)
            last = Refused(500, "server", "something went wrong here")
        await self.queue.put(last)
        await self.queue.put(None)

    def _written(self, deadline: float) -> dict[str, Any]:
        check_time(deadline)
        text = self.served.generate(self._told, deadline, **self.options)
        return {"text": text, "model": self.served.name, "weights_sha256": self.served.sha256}

    def _told(self, piece: str) -> None:
        if self.gone.is_set():
            raise Refused(499, "client", "has gone")
        self.loop.call_soon_threadsafe(self.queue.put_nowait, {"piece": piece})

    async def line(self) -> dict[str, Any] | Refused | None:
        """The next one; None after the last."""
        return await self.queue.get()

    async def lines(self, first: dict[str, Any] | None) -> AsyncIterator[str]:
        """All of them as text, `first` before the others."""
        try:
            line: dict[str, Any] | Refused | None = first
            while line is not None:
                said = errors((line.field, line.message)) if isinstance(line, Refused) else line
                yield json.dumps(said) + "\n"
                line = await self.line()
        finally:
            self.gone.set()


def _add_pages(app: FastAPI, models: Mapping[str, Served], metrics: Metrics) -> None:
    page = resources.files("eqprop_lab").joinpath("assets/serve.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> str:
        return page

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That it answers, and what is served."""
        about = {name: served.about() for name, served in models.items()}
        return {"status": "ok", "version": __version__, "models": about}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def counters() -> PlainTextResponse:
        """Counters in Prometheus' text format."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")


def _answer_faults(app: FastAPI) -> None:
    """Every refusal in one form, with no value repeated that JSON cannot hold."""

    def faults(status: int, *found: tuple[str, str]) -> JSONResponse:
        said = errors(*((field, message[:300]) for field, message in found))
        return JSONResponse(said, status)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return faults(error.status, (error.field, error.message))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [_fault(entry) for entry in error.errors()[:SHOWN_ERRORS]]
        return faults(422, *found)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        field = {404: "path", 405: "method"}.get(error.status_code, "body")
        return faults(error.status_code, (field, str(error.detail)))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return faults(500, ("server", "something went wrong here"))


def _fault(entry: Mapping[str, Any]) -> tuple[str, str]:
    """(field, message) of an error of pydantic's."""
    first, *where = entry["loc"]
    named = [part for part in where if isinstance(part, str)]
    field = ".".join(named) if named and entry["type"] != "json_invalid" else first
    message = entry["msg"]
    if entry["type"] == "json_invalid":
        message = f"must be JSON: {entry.get('ctx', {}).get('error', 'it cannot be read')}"
    return shown(field)[1:-1], message
