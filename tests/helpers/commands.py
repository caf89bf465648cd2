"""Runs the two commands as a user does, in processes of their own, on tiny built-in data."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from helpers import PATIENCE, ROOT

TINY = [
    "data.source.train=24",
    "data.source.val=7",
    "data.source.test=9",
    "data.batch_size=8",
    "tokenizer.min_count=1",
    "model.encoder.width=4",
    "model.encoder.out_dim=16",
    "model.decoder.embed_dim=16",
    "model.decoder.hidden_dim=16",
    "search.max_length=8",
    "trainer.max_epochs=2",
]


@functools.cache
def prepared():
    """A file to and from a Python that has imported the package (prepared.py); it ends with this process."""
    ours, its = socket.socketpair()
    with its:
        subprocess.Popen(
            [sys.executable, ROOT / "tests/helpers/prepared.py", str(its.fileno())],
            env=_environment({}),
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
    return ours.makefile("rw")


def ask(**request):
    """An answer of prepared.py."""
    print(json.dumps(request), file=prepared(), flush=True)
    return json.loads(prepared().readline())


class Command:
    """A script that runs in a session of its own; it has what tests need of subprocess.Popen."""

    def __init__(self, script, words, cwd, environment):
        self._files = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115 (removed with this)
        outputs, words = [file.name for file in self._files], [str(word) for word in words]
        self.pid = ask(
            script=str(script), words=words, cwd=str(cwd), environment=environment, outputs=outputs
        )
        self.returncode = None  # -N if signal N killed it

    def poll(self):
        if self.returncode is None:
            self.returncode = ask(pid=self.pid)
        return self.returncode

    def wait(self, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.returncode

    def communicate(self, timeout=PATIENCE):
        """(stdout, stderr) once it has ended."""
        ended = self.wait(timeout) is not None
        output = tuple(Path(file.name).read_text() for file in self._files)
        if not ended:
            self.kill_all()
            raise TimeoutError(output)
        return output

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill_all(self):
        """Kill it, and what it has started."""
        os.killpg(self.pid, signal.SIGKILL)


def start(command, *words, cwd, **environment):
    """Start a script of the project."""
    return Command(ROOT / command, words, cwd, _environment(environment))


def run(command, *words, cwd, **environment):
    """Run a script of the project to its end: returncode, stdout, stderr."""
    process = start(command, *words, cwd=cwd, **environment)
    out, err = process.communicate()
    return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=err)


def run_anew(command, *words, cwd, **environment):
    """Likewise, in a new Python that has imported nothing yet."""
    return subprocess.run(
        [sys.executable, ROOT / command, *words],
        cwd=cwd,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def _environment(changes):
    return {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", **changes}


def only_run(folder):
    (found,) = (entry for entry in (folder / "runs").iterdir() if entry.name != "multirun")
    return found


def read(file):
    return json.loads(file.read_text())
