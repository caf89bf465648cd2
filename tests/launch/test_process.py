"""Launched processes: small scripts, started and watched as a sweep does with train.py."""

import fcntl
import os
import signal
import subprocess
import sys

import pytest
from helpers import ROOT
from helpers.sweeps import Threshold, wait_for

from autocaption.launch.process import Process, last_error_line

CHILD = """
import json, os, signal, subprocess, sys
from pathlib import Path
from autocaption.launch.parent import ParentReporter, receive_config, watch_parent
config = receive_config()
watch_parent()
"""
# Another process of the child's group that only a signal ends.
GRANDCHILD = "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], pass_fds=[%d])\n"

PARENT = """
import signal, sys
from pathlib import Path
from autocaption.launch.process import Process
folder = Path(sys.argv[1])
process = Process(str(folder / "child.py"), [], {}, folder, None, {}, [int(sys.argv[2])])
signal.pause()
"""


@pytest.fixture
def start(tmp_path):
    """Starts CHILD with more code as a process."""
    started = []

    def start(code, config=None, reporter=None, inherited_files=()):
        script = tmp_path / "child.py"
        script.write_text(CHILD + code)
        process = Process(
            *(str(script), ["seed=1"], config or {}, tmp_path, reporter or Threshold()),
            {"PYTHONPATH": str(ROOT), "COLOR": "blue"},
            inherited_files,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def alive():
    """A pipe whose reading end reaches the end of file once all that inherited the writing end have ended."""
    reading, writing = os.pipe()
    with open(reading, "rb") as read_end, open(writing, "wb") as write_end:
        yield read_end, write_end


def exit_code(process):
    """Poll until the process ends."""
    codes = []
    wait_for(lambda: codes.append(process.poll()) or codes[-1] is not None)
    return codes[-1]


def test_it_gets_its_configuration_and_environment_and_appends_its_output(start, tmp_path):
    (tmp_path / "stdout.log").write_text("earlier\n")
    process = start(
        "print(json.dumps(config), sys.argv[1:], os.environ['COLOR'])\nsys.exit('error: no such picture')",
        {"seed": 1, "text": "grün"},
    )
    assert exit_code(process) == 1
    out = (tmp_path / "stdout.log").read_text()
    assert out == 'earlier\n{"seed": 1, "text": "gr\\u00fcn"} [\'seed=1\'] blue\n'
    assert (tmp_path / "stderr.log").read_text() == "error: no such picture\n"
    assert last_error_line(tmp_path) == "no such picture"


def test_its_reports_are_answered(start, tmp_path):
    reporter = Threshold()
    process = start(
        "answers = [ParentReporter().report(e, v, e == 3) for e, v in ((1, 0.75), (2, 0.25), (3, 0.5))]\n"
        "print(answers)",
        reporter=reporter,
    )
    assert exit_code(process) == 0
    assert reporter.reported == [(1, 0.75, False), (2, 0.25, False), (3, 0.5, True)]
    assert (tmp_path / "stdout.log").read_text() == "[False, True, False]\n"


@pytest.fixture
def _default_sigint():
    """SIGINT is not ignored, as it is in a shell's background job; the process inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_default_sigint")
def test_interrupting_it_is_ctrl_c(start, tmp_path):
    process = start(
        "try:\n    print('ready')\n    signal.pause()\nexcept KeyboardInterrupt:\n    sys.exit(130)"
    )
    wait_for(lambda: "ready" in (tmp_path / "stdout.log").read_text())
    process.interrupt()
    assert exit_code(process) == 130


def test_killing_it_kills_its_whole_group(start, alive, tmp_path):
    read_end, write_end = alive
    code = GRANDCHILD % write_end.fileno() + "print('ready')\nsignal.pause()"
    process = start(code, inherited_files=[write_end.fileno()])
    write_end.close()
    wait_for(lambda: "ready" in (tmp_path / "stdout.log").read_text())
    process.kill()
    assert read_end.read() == b""  # at the end of both processes
    assert exit_code(process) == -signal.SIGKILL


def test_its_group_is_killed_when_it_dies(start, alive):
    read_end, write_end = alive
    code = GRANDCHILD % write_end.fileno() + "os.kill(os.getpid(), signal.SIGKILL)"
    process = start(code, inherited_files=[write_end.fileno()])
    write_end.close()
    assert exit_code(process) == -signal.SIGKILL
    assert read_end.read() == b""


def test_it_holds_an_inherited_lock_until_it_ends(start, tmp_path):
    file = tmp_path / "lock"
    with open(file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start("print('ready')\nsignal.pause()", inherited_files=[lock.fileno()])
    wait_for(lambda: "ready" in (tmp_path / "stdout.log").read_text())
    with open(file) as again, pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.kill()
    exit_code(process)
    with open(file) as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_dies_with_its_parent(alive, tmp_path):
    read_end, write_end = alive
    (tmp_path / "child.py").write_text(CHILD + "print('ready')\nsignal.pause()")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path, str(write_end.fileno())],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=[write_end.fileno()],
    )
    write_end.close()
    log = tmp_path / "stdout.log"
    wait_for(lambda: log.exists() and "ready" in log.read_text())
    parent.kill()
    parent.wait()
    assert read_end.read() == b""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Traceback\nValueError: bad\n\n", "ValueError: bad"),
        ("error: no vocabulary\n", "no vocabulary"),
        ("\n", "it wrote nothing to stderr"),
        (None, "it wrote nothing to stderr"),
    ],
)
def test_the_last_error_line(tmp_path, text, line):
    if text is not None:
        (tmp_path / "stderr.log").write_text(text)
    assert last_error_line(tmp_path) == line


def test_a_report_that_the_storage_refuses_is_answered_by_the_next_poll(start):
    class Reporter(Threshold):
        def report(self, epoch, value, last):
            if not self.reported:
                self.reported.append("refused")
                raise ConnectionError("the storage restarts")
            return super().report(epoch, value, last)

    reporter = Reporter()
    process = start("sys.exit(3 if ParentReporter().report(1, 0.25, False) else 4)", reporter=reporter)

    def ended():
        try:
            return process.poll()
        except ConnectionError:
            return None

    assert wait_for(ended) == 3
    assert reporter.reported == ["refused", (1, 0.25, False)]
    assert process.poll() == 3  # again, after its end


def test_a_killed_process_has_ended_though_nobody_takes_its_report(start):
    class Gone:
        def report(self, epoch, value, last):
            raise ConnectionError("the storage is gone")

    process, refused = start("ParentReporter().report(1, 0.25, False)", reporter=Gone()), []

    def code():
        try:
            return process.poll()
        except ConnectionError as error:
            refused.append(error)

    wait_for(lambda: code() or refused)
    process.kill()
    assert wait_for(code) == -signal.SIGKILL


def test_the_group_of_a_process_that_has_ended_is_killed_once(start, monkeypatch):
    process = start("sys.exit(3)")
    assert exit_code(process) == 3
    monkeypatch.setattr("os.killpg", lambda *_: pytest.fail("its number may be another group's by now"))
    assert process.poll() == 3
    process.kill()


@pytest.mark.parametrize("code", ["sys.exit(3)", None], ids=["ended", "never read its configuration"])
def test_one_that_has_ended_leaves_no_file_open(start, tmp_path, code):
    before = len(os.listdir("/dev/fd"))
    if code is None:
        (tmp_path / "child.py").write_text("")
        process = Process(str(tmp_path / "child.py"), [], {"a": "a" * 10**6}, tmp_path, Threshold(), {})
    else:
        process = start(code)
    exit_code(process)
    assert len(os.listdir("/dev/fd")) == before


def test_secrets_are_in_the_configuration_but_not_on_the_command_line(tmp_path):
    (tmp_path / "child.py").write_text(CHILD + "print(sys.argv[1:], config)\n")
    environment = {"PYTHONPATH": str(ROOT)}
    words, config = ["seed=1", "+token=hunter2"], {"token": "hunter2"}
    process = Process(str(tmp_path / "child.py"), words, config, tmp_path, Threshold(), environment)
    assert exit_code(process) == 0
    assert (tmp_path / "stdout.log").read_text() == f"['seed=1', '+token=<hidden>'] {config}\n"
