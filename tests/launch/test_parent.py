"""The child's side of a launched process, with pipe and socket in this process."""

import os
import signal
import socket
import threading

import pytest

from autocaption.launch.parent import REPORTS, ParentReporter, receive_config, watch_parent


@pytest.fixture
def stdin():
    """The writing end of a pipe that is standard input."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    with open(writing, "wb", buffering=0) as file:
        yield file
    os.dup2(before, 0)
    os.close(before)


@pytest.fixture
def parent(monkeypatch):
    """The parent's end of the socket for reports."""
    ours, childs = socket.socketpair()
    monkeypatch.setenv(REPORTS, str(childs.fileno()))
    with ours, childs:
        yield ours


def test_the_configuration_is_one_line_and_the_rest_stays_unread(stdin):
    stdin.write(b'{"seed": 1, "data": {"root": null}}\nrest')
    assert receive_config() == {"seed": 1, "data": {"root": None}}
    assert os.read(0, 10) == b"rest"


def test_end_of_file_before_the_configuration_ends_the_process(stdin):
    stdin.write(b'{"seed": 1')
    stdin.close()
    with pytest.raises(SystemExit, match="error: the parent process ended before"):
        receive_config()


def test_the_parent_watch_kills_the_process_group_at_the_end_of_file(stdin, monkeypatch):
    killed, done = [], threading.Event()

    def killpg(group, number):
        killed.append((group, number))
        done.set()

    monkeypatch.setattr(os, "killpg", killpg)
    watch_parent()
    stdin.write(b"anything")
    assert killed == []
    stdin.close()
    assert done.wait(timeout=60)
    assert killed == [(os.getpgrp(), signal.SIGKILL)]


@pytest.mark.parametrize(("answer", "prune"), [(b"1", True), (b"0", False)])
def test_a_report_returns_the_parent_s_answer(parent, answer, prune):
    parent.send(answer)
    assert ParentReporter().report(2, 0.5, False) is prune
    assert parent.recv(100) == b"[2, 0.5, false]\n"


def test_a_parent_that_has_ended_ends_the_process(parent):
    parent.shutdown(socket.SHUT_WR)
    with pytest.raises(SystemExit, match="error: the sweep ended"):
        ParentReporter().report(1, 0.5, True)


def test_without_a_parent_nothing_is_pruned(monkeypatch):
    monkeypatch.delenv(REPORTS, raising=False)
    assert ParentReporter().report(1, 0.0, False) is False
