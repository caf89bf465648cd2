"""A launched process from both sides: configuration, reports, logs, and that nobody outlives its parent."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.sweeps import wait_for

from autocaption.launch.parent import REPORTS, ParentReporter
from autocaption.launch.process import Process, last_error_line

# A child without torch: it does what its configuration says.
CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
from autocaption.launch.parent import ParentReporter, receive_config, watch_parent

config = receive_config()
watch_parent()
print("config", config["text"], sys.argv[1:], os.environ["EXTRA"], flush=True)
if "reports" in config:
    answers = [ParentReporter().report(*report) for report in config["reports"]]
    print("answers", answers, flush=True)
if "spawn" in config:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path("pid").write_text(str(child.pid))
if "wait" in config:
    Path("waits").touch()
    try:
        signal.pause()
    except KeyboardInterrupt:
        sys.exit(130)
sys.exit(config.get("code", 0))
"""


class Reports:
    """Keeps what is reported and prunes what is below a half."""

    def __init__(self):
        self.values = []

    def report(self, epoch, value, last):
        self.values.append((epoch, value, last))
        return value < 0.5


@pytest.fixture
def start(tmp_path, monkeypatch):
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    started = []

    def start(reporter=None, keep=(), **config):
        config = {"text": "naïve ✓", **config}
        words = (str(tmp_path / "child.py"), ["a=1", "b=2"], config, tmp_path, reporter or Reports())
        started.append(Process(*words, {"EXTRA": "extra"}, keep))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def ended(process):
    return wait_for(lambda: [code] if (code := process.poll()) is not None else None)[0]


def test_configuration_is_handed_over_and_logs_are_appended(start, tmp_path):
    for code in (0, 7):
        assert ended(start(code=code)) == code
    lines = (tmp_path / "stdout.log").read_text().splitlines()
    assert lines == ["config naïve ✓ ['a=1', 'b=2'] extra"] * 2


def test_reports_are_answered(start, tmp_path):
    reporter = Reports()
    assert ended(start(reporter, reports=[[1, 0.75, False], [2, 0.25, True]])) == 0
    assert reporter.values == [(1, 0.75, False), (2, 0.25, True)]
    assert "answers [False, True]" in (tmp_path / "stdout.log").read_text()


def test_an_interrupt_is_a_ctrl_c(start, tmp_path):
    process = start(wait=True)
    wait_for((tmp_path / "waits").exists)
    process.interrupt()
    assert ended(process) == 130


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed orphan stays a zombie until its new parent looks.
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"


def test_a_kill_takes_all_that_it_started(start, tmp_path):
    process = start(wait=True, spawn=True)
    wait_for((tmp_path / "waits").exists)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_the_process_shares_the_locks_that_it_is_to_keep(start, tmp_path):
    lock = open(tmp_path / "lock", "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    process = start(wait=True, keep=[lock.fileno()])
    wait_for((tmp_path / "waits").exists)
    lock.close()
    with open(tmp_path / "lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.kill()
    ended(process)
    with open(tmp_path / "lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


PARENT = """
import os, sys
from pathlib import Path
from autocaption.launch.process import Process

child = Process("child.py", [], {"text": "", "wait": True, "spawn": True}, Path.cwd(), None, {"EXTRA": ""})
while not Path("waits").exists():
    child.poll()
os.kill(os.getpid(), 9)
"""


def test_a_process_and_all_that_it_started_end_with_their_parent(start, tmp_path):
    done = subprocess.run([sys.executable, "-c", PARENT], check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_without_a_parent_nothing_is_pruned(monkeypatch):
    monkeypatch.delenv(REPORTS, raising=False)
    assert ParentReporter().report(1, 0.0, False) is False


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Traceback\n  File\nerror: no room  \n\n", "no room"),
        ("ValueError: x\n", "ValueError: x"),
        ("", "it wrote nothing to stderr"),
        (None, "it wrote nothing to stderr"),
    ],
)
def test_the_last_error_line(tmp_path, text, line):
    if text is not None:
        (tmp_path / "stderr.log").write_text(text)
    assert last_error_line(tmp_path) == line
