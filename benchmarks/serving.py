"""How many requests does `tidegate serve` answer, how fast, and what if more come?

A server process on loopback and a client process, one text of 200 words a request, over connections
that stay open. First each side is given all it takes (saturation), then half of that at fixed times
(latency is counted from the time at which a request was due, so that a slow answer is not hidden by
requests that were sent later), with and without scoring together. Then twice the saturation comes
for a minute, more than the client itself can send; there latency is counted from the sending. Last,
one text at a time, against the model itself in the client's process. The whole takes about three
minutes on two cores, which both processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import add_output, versions, write_result
from predict_cold import train_model

WORDS = 200
VOCABULARY = 10_000


def main() -> None:
    options = parse_options()
    runs: list[dict[str, Any]] = []
    commands: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or train_model(folder)
        bodies = requests_of(made_up_texts(options.texts, options.seed))
        for batch in (64, 1):
            command = command_of(model, batch, options)
            commands.append(command)
            with server(command) as (pid, port):
                runs += [
                    {"batch": batch, **run}
                    for run in load(pid, port, bodies, options, overload=batch > 1)
                ]
        command = command_of(model, 64, options)
        with server(command) as (_, port):
            runs.append(single(model, port, bodies, options.singles))
    summary = summarise(runs)
    print(json.dumps(summary, indent=2))
    write_result(
        options.output,
        versions=versions("tidegate", "numpy", "fastapi", "uvicorn", "httptools", "uvloop"),
        settings={
            name: value for name, value in vars(options).items() if name not in ("output", "model")
        }
        | {"words": WORDS, "vocabulary": VOCABULARY},
        commands=commands,
        runs=runs,
        summary=summary,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = {"type": int, "metavar": "N"}
    parser.add_argument("--texts", default=2_000, help="different ones (2000)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--connections", default=64, help="open at once (64)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load (15)")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="of twice it (60)")
    parser.add_argument("--overload-connections", default=900, help="(900)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--max-waiting", default=512, help="of the server (512)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--workers", default=1, help="of the server (1)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--threads", type=int, metavar="N", help="of each worker")
    parser.add_argument("--singles", default=2_000, help="texts one at a time (2000)", **whole)  # type: ignore[arg-type]
    parser.add_argument("--seed", default=0, help="of the made-up texts (0)", **whole)  # type: ignore[arg-type]
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="what is served (default: one of the lecture's size, trained on made-up texts)",
    )
    add_output(parser)
    return parser.parse_args()


def made_up_texts(count: int, seed: int) -> list[str]:
    """Words are drawn as they are in reviews: a few often, most seldom."""
    generator = random.Random(seed)  # noqa: S311
    names = [f"word{i}" for i in range(VOCABULARY)]
    weights = [1.0 / (i + 10) for i in range(VOCABULARY)]
    return [" ".join(generator.choices(names, weights, k=WORDS)) for _ in range(count)]


def requests_of(texts: Sequence[str]) -> list[bytes]:
    found = []
    for text in texts:
        body = json.dumps({"texts": [text]}).encode()
        head = (
            "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


# --- the server


def command_of(model: Path, batch: int, options: argparse.Namespace) -> list[str]:
    tidegate = str(Path(sysconfig.get_path("scripts")) / "tidegate")
    command = [tidegate, "serve", str(model), "--port", "0", "--batch", str(batch)]
    command += ["--workers", str(options.workers), "--max-waiting", str(options.max_waiting)]
    return command if options.threads is None else [*command, "--threads", str(options.threads)]


@contextmanager
def server(command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Its process and its port. SystemExit if it does not end as it should."""
    with tempfile.TemporaryFile() as logs:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=logs, text=True)
        line = process.stdout.readline() if process.stdout is not None else ""
        if " on http://" not in line:
            process.kill()
            raise SystemExit(f"{' '.join(command)} said {line!r}")
        try:
            yield process.pid, int(line.split(" on http://")[1].split()[0].rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
        if status:
            raise SystemExit(f"{' '.join(command)} ended with {status}")


def resident_mb(pid: int) -> float:
    """Of the process and its children, in 10^6 bytes; NaN where the system does not say."""
    try:
        folder = Path("/proc")
        pids = [pid]
        children = folder / str(pid) / "task" / str(pid) / "children"
        pids += [int(child) for child in children.read_text().split()]
        pages = [int((folder / str(each) / "statm").read_text().split()[1]) for each in pids]
    except OSError:
        return float("nan")
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


# --- the client


@dataclass
class Tally:
    """What came of the requests of one run. seconds: of each that was answered by 200."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    closed: int = 0  # connections that the server ended


class Connection(asyncio.Protocol):
    """One request after another; an answer's length is in its headers."""

    def __init__(self, tally: Tally, free: asyncio.Queue[Connection]) -> None:
        self._tally, self._free = tally, free
        self._buffer = b""
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._free.put_nowait(self)

    def send(self, request: bytes, due: float) -> None:
        if self._transport is None:
            return
        self._due = due
        self._tally.sent += 1
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        status = int(head[9:12])
        self._tally.statuses[status] += 1
        if status == 200:
            self._tally.seconds.append(time.perf_counter() - self._due)
        self._free.put_nowait(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.closed += 1

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def drive(
    port: int,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    rate: float | None,
    *,
    too_much: bool = False,
) -> tuple[Tally, float]:
    """Requests for so long: at a rate, or as fast as answers come. The tally, and the seconds."""
    loop, tally = asyncio.get_running_loop(), Tally()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    opened = [
        (await loop.create_connection(lambda: Connection(tally, free), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    begun, number = time.perf_counter(), 0
    while (now := time.perf_counter()) < begun + seconds:
        due = now if rate is None else begun + number / rate
        if due > now:
            await asyncio.sleep(due - now)
        connection = await free.get()
        sent = time.perf_counter() if rate is None or too_much else due
        connection.send(bodies[number % len(bodies)], sent)
        number += 1
    lasted = time.perf_counter() - begun
    answered = sum(tally.statuses.values())
    # What was sent before the end is waited for, and not counted in the rate.
    until = time.perf_counter() + 30.0
    while sum(tally.statuses.values()) < tally.sent and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    closed = tally.closed  # before it is this side that ends them
    for each in opened:
        each.close()
    await asyncio.sleep(0.05)
    tally.closed = closed
    return tally, answered / lasted


def load(
    pid: int, port: int, bodies: Sequence[bytes], options: argparse.Namespace, *, overload: bool
) -> Iterator[dict[str, Any]]:
    run(port, bodies, options.connections, 2.0, None)  # warm
    most = run(port, bodies, options.connections, options.seconds, None)
    yield {"load": "saturation", **most}
    rate = most["per_second"]
    yield {
        "load": "half",
        **run(port, bodies, options.connections, options.seconds, rate / 2),
    }
    if not overload:
        return
    # What more connections and longer queues take is taken before memory is looked at.
    more = (port, bodies, options.overload_connections)
    run(*more, options.overload_seconds / 6, 2 * rate, too_much=True)
    before = resident_mb(pid)
    found = run(*more, options.overload_seconds, 2 * rate, too_much=True)
    yield {
        "load": "twice",
        **found,
        "resident_mb_before": before,
        "resident_mb_after": resident_mb(pid),
    }
    yield {"load": "half, after twice", **run(port, bodies, options.connections, 5.0, rate / 2)}


def run(
    port: int,
    bodies: Sequence[bytes],
    connections: int,
    seconds: float,
    rate: float | None,
    *,
    too_much: bool = False,
) -> dict[str, Any]:
    asked = drive(port, bodies, connections, seconds, rate, too_much=too_much)
    tally, per_second = asyncio.run(asked)
    answered = sum(tally.statuses.values())
    found = {
        "connections": connections,
        "offered_per_second": rate,
        "per_second": per_second,
        "sent": tally.sent,
        "answered": answered,
        "lost": tally.sent - answered,
        "closed_by_server": tally.closed,
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        **{f"ms_{name}": value for name, value in quantiles(tally.seconds).items()},
    }
    print(
        f"{'all it takes' if rate is None else f'{rate:8,.0f}/s offered':>18}  "
        f"{per_second:8,.0f}/s  p50 {found['ms_p50']:7.2f} ms  p99 {found['ms_p99']:7.2f} ms  "
        f"lost {found['lost']}  {found['statuses']}",
        file=sys.stderr,
    )
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds) or [float("nan")]
    return {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
    }


def single(model: Path, port: int, bodies: Sequence[bytes], count: int) -> dict[str, Any]:
    """One text at a time, in turns: from the server, and from the model in this process."""
    import socket

    from tidegate import TextClassifier, answers

    classifier = TextClassifier.load(model)
    texts = [json.loads(body.partition(b"\r\n\r\n")[2])["texts"] for body in bodies]
    served, own = [], []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(count):
            place = number % len(bodies)
            begun = time.perf_counter()
            connection.sendall(bodies[place])
            answer = b""
            while not answer.endswith(b"}]}"):
                answer += connection.recv(65_536)
            middle = time.perf_counter()
            expected = answers.predictions(classifier, texts[place])
            own.append(time.perf_counter() - middle)
            served.append(middle - begun)
            if json.loads(answer.partition(b"\r\n\r\n")[2])["results"] != expected:
                raise SystemExit(f"the server says {answer!r}, the model {expected}")
    return {
        "load": "one at a time",
        "texts": count,
        **{f"ms_{name}": value for name, value in quantiles(served).items()},
        **{f"model_ms_{name}": value for name, value in quantiles(own).items()},
        "ms_more": statistics.median(a - b for a, b in zip(served, own, strict=True)) * 1e3,
    }


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by = {(run.get("batch"), run["load"]): run for run in runs}
    twice, alone = by[64, "twice"], by[None, "one at a time"]
    return {
        **{
            f"per_second_{name}": by[batch, "saturation"]["per_second"]
            for batch, name in ((64, "together"), (1, "alone"))
        },
        **{
            f"half_ms_{quantile}_{name}": by[batch, "half"][f"ms_{quantile}"]
            for batch, name in ((64, "together"), (1, "alone"))
            for quantile in ("p50", "p99")
        },
        "twice_per_second": twice["per_second"],
        "twice_statuses": twice["statuses"],
        "twice_lost": twice["lost"],
        "twice_ms_p99": twice["ms_p99"],
        "twice_resident_mb": [twice["resident_mb_before"], twice["resident_mb_after"]],
        "single_ms": alone["ms_p50"],
        "single_model_ms": alone["model_ms_p50"],
        "single_ms_more": alone["ms_more"],
    }


if __name__ == "__main__":
    main()
