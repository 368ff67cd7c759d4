"""A server's answers are those of `relax`, its refusals name the field, and it stops when told."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from torch import Tensor, nn

import eqprop_lab
from eqprop_lab import (
    Ensemble,
    Equilibrium,
    EquilibriumBlock,
    LoopedMLP,
    build_dataset,
    load_trained,
    make_app,
    relax,
    save_trained,
    serve,
    serving,
    trained_info,
)
from eqprop_lab.commands import serve as command
from eqprop_lab.deploy.answers import Served
from eqprop_lab.deploy.opening import open_model
from eqprop_lab.deploy.questions import Refused
from eqprop_lab.deploy.serve import _bound
from eqprop_lab.equilibrium.state import State
from eqprop_lab.experiments.runs import fingerprint
from eqprop_lab.lut import load_pretrained
from tests.waiting import until

WAIT = 60.0
NAMES = ("digits_conv", "shakespeare_hybrid", "digits_small", "mlp")


class Client:
    """One connection, kept alive."""

    def __init__(self, url: str) -> None:
        self.at = urlsplit(url)
        self.connection = http.client.HTTPConnection(self.at.hostname or "", self.at.port, WAIT)

    def close(self) -> None:
        self.connection.close()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        self.connection.request(method, path, text, {"content-type": "application/json", **headers})
        response = self.connection.getresponse()
        found = response.read()
        if response.headers.get_content_type() == "application/json":
            return response.status, json.loads(found)
        return response.status, found.decode()

    def predict(self, inputs: Any, model: str | None = "digits_conv", **more: Any) -> Any:
        return self("POST", "/predict", {"inputs": inputs, "model": model, **more})


def ask(url: str, inputs: Any, **more: Any) -> Any:
    """On a connection of its own."""
    with closing(Client(url)) as client:
        return client.predict(inputs, **{"model": None, **more})


@contextmanager
def serving_process(*names: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command itself on a port that is free, and its address; it is killed in the end."""
    args = [sys.executable, "-m", "eqprop_lab", "serve", *names, "--port", "0"]
    where = {**os.environ, **environ}
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=where) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()[2].rstrip("/")
        finally:
            process.kill()


def counted(url: str) -> str:
    with closing(Client(url)) as client:
        return str(client("GET", "/metrics")[1])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    nets: dict[str, Any] = {name: name for name in NAMES[:3]}
    nets["mlp"] = LoopedMLP(6, 5, 3, seed=0)
    with serving(nets, body=200_000, batch=8, seconds=60, tokens=40) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with closing(Client(url)) as client:
        yield client


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return build_dataset("digits").test.x[:8]


def logits(model: Any, end: Equilibrium) -> Tensor:
    """Without gradients: with them torch sums some products in another order."""
    with torch.no_grad():
        return model.readout(end.state)


def test_an_answer_is_what_relax_gives_bit_for_bit(client: Client, digits: Tensor) -> None:
    model = load_trained("digits_conv")
    for x, tol in ((digits[:1], 1e-4), (digits[:5], 1e-6)):
        status, answer = client.predict(x.tolist(), tol=tol, max_steps=100)
        end = relax(model, x, max_steps=100, tol=tol)
        wanted = logits(model, end)
        assert status == 200 and torch.equal(torch.tensor(answer["logits"]), wanted)
        assert answer["classes"] == wanted.argmax(1).tolist()
        assert (answer["residual"], answer["steps"]) == (end.residual, end.steps)
        assert answer["converged"] is True and answer["error_bound"] == end.error_bound
        assert answer["model"] == "digits_conv"
        assert answer["weights_sha256"] == fingerprint(model)


def test_a_language_model_says_its_next_token_and_settles(client: Client) -> None:
    model = load_trained("shakespeare_hybrid")
    status, answer = client.predict(["To be, or", "not to be"], "shakespeare_hybrid")
    x = torch.stack([model.vocab.encode(text) for text in ("To be, or", "not to be")])
    wanted = logits(model, relax(model, x, max_steps=300, tol=1e-4)).reshape(2, 9, -1)
    assert status == 200 and torch.equal(torch.tensor(answer["logits"]), wanted[:, -1])
    assert answer == client.predict(x.tolist(), "shakespeare_hybrid")[1]


def test_a_lut_network_answers_without_settling(client: Client, digits: Tensor) -> None:
    x = digits.flatten(1)
    status, answer = client.predict(x.tolist(), "digits_small")
    with torch.no_grad():
        wanted = load_pretrained("digits_small")(x)
    assert status == 200 and torch.equal(torch.tensor(answer["logits"]), wanted)
    assert [answer[k] for k in ("residual", "steps", "converged", "error_bound")] == [None] * 4
    assert client.predict(x.tolist(), "digits_small", strict=True)[0] == 200


def test_strict_refuses_what_has_not_settled(client: Client, digits: Tensor) -> None:
    how = {"max_steps": 2, "tol": 1e-6}
    status, answer = client.predict(digits.tolist(), **how)
    assert status == 200 and answer["converged"] is False and answer["steps"] == 2
    status, answer = client.predict(digits.tolist(), strict=True, **how)
    assert status == 503 and answer["errors"][0]["field"] == "strict"
    assert "residual" in answer["errors"][0]["message"]


def test_parallel_requests_get_the_answers_of_single_ones(url: str, digits: Tensor) -> None:
    images = [x[None].tolist() for x in digits]
    alone = [ask(url, x, model="digits_conv") for x in images]
    with ThreadPoolExecutor(24) as pool:
        many = list(pool.map(lambda x: ask(url, x, model="digits_conv"), 12 * images))
    assert many == 12 * alone and {status for status, _ in many} == {200}


def test_text_is_generated_piece_by_piece(url: str, client: Client) -> None:
    question = {"prompt": "KING", "max_new_tokens": 12, "seed": 3, "model": "shakespeare_hybrid"}
    status, lines = client("POST", "/generate", question)
    found = [json.loads(line) for line in lines.splitlines()]
    wanted = load_trained("shakespeare_hybrid").generate("KING", 12, seed=3)
    assert status == 200 and len(found) == 13 and found[-1]["text"] == wanted
    assert "KING" + "".join(line["piece"] for line in found[:-1]) == wanted
    assert found[-1]["weights_sha256"] == fingerprint(load_trained("shakespeare_hybrid"))


NESTED = b'{"inputs": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"
IMAGE = [[[[0.0] * 8] * 8]]
BAD: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 422, "body"),
    "no body": (b"", 422, "body"),
    "text": (b"hello", 422, "body"),
    "bytes": (b"\xff\xfe\x00", 400, "body"),
    "list": ([1, 2], 422, "body"),
    "null": (b"null", 422, "body"),
    "deep": (NESTED, 400, "body"),
    "deep enough": ({"inputs": [[[[[[[[1.0]]]]]]]]}, 422, "inputs"),
    "no inputs": ({}, 422, "inputs"),
    "null inputs": ({"inputs": None}, 422, "inputs"),
    "number": ({"inputs": 3}, 422, "inputs"),
    "empty": ({"inputs": []}, 422, "inputs"),
    "empty rows": ({"inputs": [[]]}, 422, "inputs"),
    "too many": ({"inputs": IMAGE * 9}, 422, "inputs"),
    "NaN": (b'{"inputs": [[[[NaN]]]], "model": "digits_conv"}', 422, "inputs[0][0][0][0]"),
    "infinity": (b'{"inputs": [[1, -Infinity]], "model": "digits_conv"}', 422, "inputs[0][1]"),
    "too large": ({"inputs": [[1, 1e300]]}, 422, "inputs[0][1]"),
    "overflowing": ({"inputs": [[1, 10**400]]}, 422, "inputs"),
    "endless": (b'{"inputs": [[' + b"1" * 5000 + b"]]}", 400, "body"),
    "texts": ({"inputs": [[1, "2"]]}, 422, "inputs[0][1]"),
    "truth": ({"inputs": [[True, 0.0]]}, 422, "inputs[0][0]"),
    "none": ({"inputs": [[None, 0.0]]}, 422, "inputs[0][0]"),
    "ragged": ({"inputs": [[1, 2], [1]]}, 422, "inputs"),
    "mixed": ({"inputs": [[1, 2], 3]}, 422, "inputs[1]"),
    "shape": ({"inputs": [[1.0, 2.0]]}, 422, "inputs"),
    "model": ({"inputs": IMAGE, "model": "digits_con"}, 422, "model"),
    "which model": ({"inputs": IMAGE, "model": None}, 422, "model"),
    "kind of model": ({"inputs": IMAGE, "model": 3}, 422, "model"),
    "strict": ({"inputs": IMAGE, "strict": "yes"}, 422, "strict"),
    "tol": ({"inputs": IMAGE, "tol": 0}, 422, "tol"),
    "tol as text": ({"inputs": IMAGE, "tol": "1e-3"}, 422, "tol"),
    "tol NaN": (b'{"inputs": [[1]], "tol": NaN}', 422, "tol"),
    "steps": ({"inputs": IMAGE, "max_steps": 10**9}, 422, "max_steps"),
    "half a step": ({"inputs": IMAGE, "max_steps": 1.5}, 422, "max_steps"),
    "misspelt": ({"inputs": IMAGE, "stric": True}, 422, "stric"),
    "dtype": ({"inputs": IMAGE, "dtype": "float17"}, 422, "dtype"),
    "tokens": ({"inputs": [[1.5]], "model": "shakespeare_hybrid"}, 422, "inputs[0]"),
    "token": ({"inputs": [[65]], "model": "shakespeare_hybrid"}, 422, "inputs"),
    "symbol": ({"inputs": ["é"], "model": "shakespeare_hybrid"}, 422, "inputs"),
    "lengths": ({"inputs": ["ab", "a"], "model": "shakespeare_hybrid"}, 422, "inputs"),
    "long": ({"inputs": ["a" * 65], "model": "shakespeare_hybrid"}, 422, "inputs"),
    "huge": (b" " * 300_000, 413, "body"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_is_refused_and_its_field_is_named(name: str, client: Client) -> None:
    body, status, field = BAD[name]
    if isinstance(body, dict):
        body = {"model": "digits_conv", **body}
    found, answer = client("POST", "/predict", body)
    assert (found, answer["errors"][0]["field"]) == (status, field), answer
    assert 0 < len(answer["errors"][0]["message"]) <= 300


TEXTS: dict[str, tuple[Any, int, str]] = {
    "symbol": ({"prompt": "naïve"}, 422, "prompt"),
    "number": ({"prompt": 3}, 422, "prompt"),
    "count": ({"max_new_tokens": 0}, 422, "max_new_tokens"),
    "too many": ({"max_new_tokens": 41}, 422, "max_new_tokens"),
    "temperature": ({"temperature": -1}, 422, "temperature"),
    "top_k": ({"top_k": 66}, 422, "top_k"),
    "seed": ({"seed": 2**32}, 422, "seed"),
    "model": ({"model": "digits_conv"}, 422, "model"),
    "long": ({"prompt": "a" * 100_001}, 422, "prompt"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_prompt_is_refused(name: str, client: Client) -> None:
    body, status, field = TEXTS[name]
    found, answer = client("POST", "/generate", {"model": "shakespeare_hybrid", **body})
    assert (found, answer["errors"][0]["field"]) == (status, field), answer


@pytest.mark.parametrize(
    "method, path, status, field",
    [("GET", "/nothing", 404, "path"), ("GET", "/predict", 405, "method")],
)
def test_paths_and_methods(method: str, path: str, status: int, field: str, client: Client) -> None:
    found, answer = client(method, path)
    assert (found, answer["errors"][0]["field"]) == (status, field)


def test_a_page_of_another_site_does_not_reach_it(client: Client) -> None:
    status, answer = client("GET", "/health", host="evil.example:80")
    assert (status, answer["errors"][0]["field"]) == (400, "host")
    assert client("GET", "/health", host="localhost:1234")[0] == 200


def test_a_body_that_comes_too_slowly_is_not_waited_for() -> None:
    with serving(LoopedMLP(6, 5, 3, seed=0), seconds=0.3) as url:
        at = urlsplit(url)
        with socket.create_connection((at.hostname, at.port), WAIT) as sock:
            sock.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
            assert b" 408 " in sock.recv(1000).split(b"\r\n")[0]


class Slow(nn.Module):
    """Takes as long as it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        self.gate.wait(WAIT)
        return x


def test_a_full_server_refuses_and_what_waited_too_long_too() -> None:
    slow = Slow()
    with serving(slow, waiting=2, workers=1, seconds=1.5) as url, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, url, [[1.0]]) for _ in range(2)]
        until(lambda: "requests_waiting 2" in counted(url))
        status, answer = ask(url, [[1.0]])
        assert status == 503 and "busy" in answer["errors"][0]["message"]
        time.sleep(1.5)
        slow.gate.set()
        found = sorted(future.result()[0] for future in asked)
    assert found == [200, 503]


class Sleepy(LoopedMLP):
    """A step that takes its time."""

    def step(self, *args: Any, **options: Any) -> State:
        time.sleep(0.2)
        return super().step(*args, **options)


def test_a_relaxation_ends_with_its_time() -> None:
    with serving(Sleepy(6, 5, 3, seed=0), seconds=1.0) as url:
        status, answer = ask(url, [[0.1] * 6], tol=1e-7, max_steps=300)
    assert (status, answer["errors"][0]["field"]) == (503, "time")


def test_something_that_breaks_says_nothing_of_its_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(Served, "predict", broken)
    with serving(LoopedMLP(6, 5, 3, seed=0)) as url:
        status, answer = ask(url, [[0.0] * 6])
    assert status == 500 and "secret" not in json.dumps(answer)
    assert "secret" in caplog.text


def test_health_metrics_and_the_page(client: Client, digits: Tensor) -> None:
    status, health = client("GET", "/health")
    assert status == 200 and set(health["models"]) == set(NAMES)
    assert health["models"]["digits_conv"]["settles"] is True
    assert health["models"]["shakespeare_hybrid"]["generates"] is True
    client.predict(digits.tolist(), max_steps=1)
    lines = client("GET", "/metrics")[1].splitlines()
    said = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    counts = {name: float(value) for name, _, value in said}
    assert counts['eqprop_lab_unconverged_total{model="digits_conv"}'] >= 1
    kind = 'eqprop_lab_request_seconds_bucket{path="/predict",le="+Inf"}'
    assert counts[kind] == counts['eqprop_lab_request_seconds_count{path="/predict"}'] >= 1
    page, api = client("GET", "/")[1], client("GET", "/openapi.json")[1]
    assert {"/predict", "/generate", "/health", "/metrics"} == set(api["paths"])
    assert "http://" not in page and "https://" not in page and "//" not in page.split("src=")[-1]
    client.connection.request("GET", "/")
    response = client.connection.getresponse()
    response.read()
    assert "default-src 'self'" in response.headers["content-security-policy"]


def test_names_of_all_kinds_are_opened(tmp_path: Path) -> None:
    assert open_model("digits_small").trained and not open_model("mnist_tiny").trained
    net = load_trained("digits_conv")
    info = {k: v for k, v in trained_info("digits_conv").items()}
    path = save_trained(net, tmp_path / "mine.safetensors", info)
    assert open_model(str(path)).name == "mine"
    with pytest.raises(ValueError, match="did you mean 'digits_conv'"):
        open_model("digits_con")


@pytest.mark.parametrize("nested", ["block", "ensemble"])
def test_strict_is_refused_where_it_cannot_be_kept(nested: str) -> None:
    inner = LoopedMLP(4, 3, 2, seed=0)
    net = Ensemble([inner]) if nested == "ensemble" else nn.Sequential(EquilibriumBlock(inner))
    with serving({"net": net}) as url, closing(Client(url)) as client:
        body = {"inputs": [[0.0] * 4]}
        assert client("POST", "/predict", body)[0] == 200
        status, answer = client("POST", "/predict", body | {"strict": True})
    assert status == 422 and answer["errors"][0]["field"] == "strict"


def test_networks_are_in_their_mode_afterwards() -> None:
    net = nn.Sequential(nn.Linear(1, 2), nn.Dropout().eval())
    with serving({"net": net}):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, True, False]


@pytest.mark.parametrize(
    ("net", "inputs"),
    [(nn.Linear(3, 2), [1.0, 2.0, 3.0]), (nn.Conv2d(1, 2, 1), [[[[1.0]]]])],
    ids=["one sample for a batch", "maps for logits"],
)
def test_what_is_no_row_of_logits_a_sample_is_no_answer(net: nn.Module, inputs: Any) -> None:
    with pytest.raises(Refused, match=r"inputs: must be a batch .* that gives logits \(B, K\)"):
        Served("net", net).predict(inputs)


def test_logits_that_overflow_are_no_answer() -> None:
    net = nn.Linear(1, 2)
    nn.init.constant_(net.weight, 10.0)
    with pytest.raises(Refused, match="inputs: must be smaller"):
        Served("net", net).predict([[3e38]])


BAD_CALLS: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "none": ({}, {}, TypeError, "models must be a network"),
    "kind": (3, {}, TypeError, "models must be a network"),
    "inner kind": ({"a": 3}, {}, TypeError, r"models\['a'\] must be"),
    "twice": ({"": "digits_conv", "digits_conv": nn.Linear(1, 1)}, {}, ValueError, "got 'digits_c"),
    "name": ("digits_con", {}, ValueError, "did you mean"),
    "limit": (nn.Linear(1, 1), {"batches": 3}, ValueError, "did you mean 'batch'"),
    "batch": (nn.Linear(1, 1), {"batch": 0}, ValueError, "batch must be"),
    "seconds": (nn.Linear(1, 1), {"seconds": float("nan")}, ValueError, "seconds must be"),
    "host": (nn.Linear(1, 1), {"host": 3}, TypeError, "host must be"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_refused(name: str) -> None:
    models, how, kind, message = BAD_CALLS[name]
    with pytest.raises(kind, match=message):
        make_app(models, **how)


def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "eqprop_lab.deploy.web", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'eqprop_lab\[serve\]'"):
        make_app(nn.Linear(1, 1))
    assert callable(eqprop_lab.serve)
    assert command.main(["digits_conv"]) == 2
    assert "eqprop_lab[serve]" in capsys.readouterr().err


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with _bound("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()[:2]):
        with sock.accept()[0] as accepted:
            # asyncio sends at once on sockets that say so themselves
            assert accepted.proto == socket.IPPROTO_TCP


def test_an_address_that_is_taken(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = urlsplit(url).port
    with pytest.raises(OSError, match="in use"):
        serve(nn.Linear(1, 1), port=port or 0)
    with pytest.raises(ValueError, match="port must be"):
        serve(nn.Linear(1, 1), port=70_000)
    assert command.main(["digits_con"]) == 2 and "did you mean" in capsys.readouterr().err


def begun(client: Client, then: Callable[[], None]) -> tuple[bytes, list[bytes]]:
    """First line of a text, and the others, after something has happened."""
    body = json.dumps({"prompt": "A", "max_new_tokens": 60, "seed": 0}).encode()
    client.connection.request("POST", "/generate", body, {"content-type": "application/json"})
    with client.connection.getresponse() as response:
        first = response.readline()
        then()
        return first, response.read().splitlines()


def test_the_command_serves_and_ends_with_what_is_in_work() -> None:
    with serving_process("shakespeare_hybrid") as (process, url):
        with closing(Client(url)) as client:
            first, rest = begun(client, lambda: process.send_signal(signal.SIGTERM))
        assert "piece" in json.loads(first) and "text" in json.loads(rest[-1])
        assert process.wait(WAIT) == 0
