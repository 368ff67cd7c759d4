"""What a server costs and stands.

    python -m tests.benchmarks.serving

Writes data/results/serving.json, which notebook 17 shows. One server process on this machine, one
thread of torch; the client and `relax` itself are in another process, in turns. Takes a minute on
an idle machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from eqprop_lab import build_dataset, load_trained, relax
from tests.benchmarks.published import RESULTS
from tests.benchmarks.store import write_result
from tests.deploy.test_serve import BAD, Client, serving_process

MODEL, TOL, STEPS = "digits_conv", 1e-4, 300
REQUESTS, PARALLEL, MANY, MEBIBYTES = 200, 200, 5000, 300


def cpu_ms(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latencies(url: str, pid: int, x: torch.Tensor) -> dict[str, Any]:
    """Milliseconds of a request and of the same relaxation here, in turns; equal bit for bit?
    Of the clock, which other programs lengthen, and of the processor.
    """
    own, cpu = 0.0, cpu_ms(pid)
    model, times, same = load_trained(MODEL), ([], []), True  # type: ignore[var-annotated]
    with closing(Client(url)) as client, torch.no_grad():
        for number in range(REQUESTS + 10):
            image = x[number % len(x)][None]
            body = image.tolist()
            start = time.perf_counter()
            status, answer = client.predict(body)
            middle = time.perf_counter()
            before = time.process_time()
            logits = model.readout(relax(model, image, STEPS, TOL).state)
            end, used = time.perf_counter(), time.process_time() - before
            own += 1e3 * used
            same &= status == 200 and torch.equal(torch.tensor(answer["logits"]), logits)
            if number >= 10:
                times[0].append(1e3 * (middle - start))
                times[1].append(1e3 * (end - middle))
    served, direct = (
        {"p50": statistics.median(found), "p95": statistics.quantiles(found, n=20)[-1]}
        for found in times
    )
    every = REQUESTS + 10
    spent = {"served": (cpu_ms(pid) - cpu) / every, "direct": own / every}
    clock = {"served_ms": served, "direct_ms": direct}
    return {"requests": REQUESTS, **clock, "cpu_ms": spent, "equal": same}


def together(url: str, x: torch.Tensor) -> dict[str, Any]:
    """Requests at once, each on a connection of its own."""
    images = [image[None].tolist() for image in x[:20]]

    def ask(number: int) -> Any:
        with closing(Client(url)) as client:
            return client.predict(images[number % len(images)])

    alone = [ask(number) for number in range(len(images))]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = list(pool.map(ask, range(PARALLEL)))
    equal = all(answer == alone[n % len(images)] for n, answer in enumerate(found))
    statuses = sorted({status for status, _ in found})
    return {"requests": PARALLEL, "statuses": statuses, "equal": equal}


def refused(url: str) -> dict[str, Any]:
    """Bad questions, a huge body among them: statuses, and the slowest answer."""
    slowest, statuses = 0.0, set()
    small = {name: body for name, (body, _, _) in BAD.items() if name != "too many"}
    bodies = [{"model": MODEL, **b} if isinstance(b, dict) else b for b in small.values()]
    bodies.append({"inputs": [[[[0.0] * 8] * 8]] * 65, "model": MODEL})
    for body in bodies:
        with closing(Client(url)) as client:
            start = time.perf_counter()
            status, _ = client("POST", "/predict", body)
            slowest = max(slowest, time.perf_counter() - start)
            statuses.add(status)
    huge = huge_body(url)
    statuses.add(huge["status"])
    counted = {"inputs": len(bodies) + 1, "statuses": sorted(statuses)}
    return {**counted, "slowest_s": slowest, "huge_body": huge}


def huge_body(url: str) -> dict[str, Any]:
    """A body of 300 MiB, all of it written."""
    block, start = b" " * 2**20, time.perf_counter()
    at = urlsplit(url)
    with closing(http.client.HTTPConnection(at.hostname or "", at.port, 30)) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("content-length", str(MEBIBYTES * 2**20))
        connection.endheaders()
        for _ in range(MEBIBYTES):
            connection.send(block)
        status = connection.getresponse().status
    return {"mebibytes": MEBIBYTES, "status": status, "seconds": time.perf_counter() - start}


def resident(pid: int) -> float:
    """Mebibytes of memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def memory(url: str, pid: int, x: torch.Tensor) -> dict[str, Any]:
    """Resident memory every thousand requests, after the first hundred."""
    images, seen = [image[None].tolist() for image in x[:20]], []
    with closing(Client(url)) as client:
        for number in range(100 + MANY + 1):
            if number >= 100 and (number - 100) % 1000 == 0:
                seen.append(resident(pid))
            client.predict(images[number % 20])
    return {"requests": MANY, "mebibytes": seen}


def killed(process: subprocess.Popen[str], url: str, folder: str) -> dict[str, Any]:
    """kill -9 while a text is written: what is left of files and processes, is the port free?"""
    at = urlsplit(url)
    with closing(http.client.HTTPConnection(at.hostname or "", at.port, 30)) as connection:
        body = json.dumps({"prompt": "A", "max_new_tokens": 900, "model": "shakespeare_hybrid"})
        connection.request("POST", "/generate", body, {"content-type": "application/json"})
        connection.getresponse().readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
        process.wait()
    again = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.create_server(('127.0.0.1', {at.port}))"]
    )
    left = sorted(path.name for path in Path(folder).iterdir())
    return {"files": left, "processes": len(children), "port_free": again.returncode == 0}


def rounding(x: torch.Tensor) -> dict[str, float]:
    """How far the logits of an image move with its batch, with the threads, with a graph."""
    model, before = load_trained(MODEL), torch.get_num_threads()

    def logits(batch: torch.Tensor, threads: int = 1) -> torch.Tensor:
        torch.set_num_threads(threads)
        found = model.readout(relax(model, batch, STEPS, 1e-6).state)
        torch.set_num_threads(before)
        return found.detach()

    with torch.no_grad():
        alone = torch.cat([logits(image[None]) for image in x[:32]])
        whole, more = logits(x[:32]), logits(x[:32], 2)
    graph = logits(x[:32])
    pairs = {"batch": alone, "threads": more, "graph": graph}
    return {name: float((whole - other).abs().max()) for name, other in pairs.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """All trials, stored as one result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder, default data/results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    x = build_dataset("digits").test.x
    with (
        tempfile.TemporaryDirectory() as folder,
        serving_process(MODEL, "shakespeare_hybrid", TMPDIR=folder) as (process, url),
    ):
        found = {"latency": latencies(url, process.pid, x), "parallel": together(url, x)}
        found |= {"refused": refused(url), "memory": memory(url, process.pid, x)}
        found |= {"killed": killed(process, url, folder), "rounding": rounding(x)}
    about = {"seeds": [0], "estimator": "none, answers alone", "model": MODEL, "tol": TOL}
    write_result("serving", about | found, given.output)


if __name__ == "__main__":
    main()
