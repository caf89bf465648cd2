"""ApacheBench: clients that ask a server over HTTP, each anew as soon as it has its answer."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from autocaption.errors import UserError


@dataclass(frozen=True)
class Load:
    """What some clients saw.

    Attributes:
        throughput: answers a second.
        p50: seconds that half of the answers took at most, to the millisecond.
        p99: seconds that 99 of 100 took at most.
    """

    throughput: float
    p50: float
    p99: float


def load(url: str, body: bytes, kind: str, clients: int, count: int, seconds: int = 180) -> Load:
    """Send a body of a content type `count` times from so many clients, for so many seconds at most.

    Raises:
        UserError: ApacheBench is not here.
        RuntimeError: an answer is no success, or none comes.
    """
    if shutil.which("ab") is None:
        raise UserError("the load comes from ApacheBench: apt install apache2-utils (elsewhere httpd-tools)")
    with tempfile.NamedTemporaryFile() as sent:
        sent.write(body)
        sent.flush()
        # -t before -n, which it would set; -l since answers may differ in length.
        bounds = ("-t", str(seconds), "-n", str(count), "-s", str(seconds), "-c", str(clients))
        command = ("ab", "-q", "-l", *bounds, "-p", sent.name, "-T", kind, url)
        done = subprocess.run(command, capture_output=True, text=True)
    failed = _number("Failed requests:", done.stdout) + _number("Non-2xx responses:", done.stdout)
    if done.returncode or failed or not _number("Complete requests:", done.stdout):
        raise RuntimeError(f"{failed:.0f} requests failed:\n{done.stdout}{done.stderr}")
    p50, p99 = (_number(f"{percent}%", done.stdout) / 1000 for percent in (50, 99))
    return Load(_number("Requests per second:", done.stdout), p50, p99)


def _number(after: str, report: str) -> float:
    """The number that follows in ApacheBench's report; 0 where there is none."""
    found = re.search(rf"^ *{after} +([\d.]+)", report, re.MULTILINE)
    return float(found[1]) if found else 0.0
