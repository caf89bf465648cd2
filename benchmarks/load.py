"""Clients that ask a server over HTTP, each as soon as it has its answer."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Load:
    """What some clients saw.

    Attributes:
        throughput: answers a second.
        p50: seconds that half of the answers took at most.
        p99: seconds that 99 of 100 took at most.
    """

    throughput: float
    p50: float
    p99: float


def load(url: str, requests: Sequence[tuple[bytes, str]], clients: int, count: int) -> Load:
    """Send `count` requests, (body, content type), over and over, from so many clients.

    Raises:
        RuntimeError: an answer is no success.
    """
    return asyncio.run(_load(url, requests, clients, count))


async def _load(url: str, requests: Sequence[tuple[bytes, str]], clients: int, count: int) -> Load:
    turns, seconds = iter(range(count)), []

    async def client() -> None:
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for turn in turns:
            start = time.perf_counter()
            await _answer(reader, writer, place.path, *requests[turn % len(requests)])
            seconds.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    total = time.perf_counter() - start
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[-1]
    return Load(count / total, statistics.median(seconds), p99)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes, kind: str
) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    (length,) = (int(line[15:]) for line in answer.splitlines() if line.startswith("content-length:"))
    content = await reader.readexactly(length)
    if " 200 " not in answer.splitlines()[0]:
        raise RuntimeError(f"{answer.splitlines()[0]}: {content[:300]!r}")
    return content
