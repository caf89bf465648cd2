"""Progress bars."""

import io
import sys

from autocaption.progress import track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_items_pass_silently_without_a_terminal(capsys):
    assert list(track("abc", "Reading", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_count_and_total(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert list(track(["aa", "bbb"], "Reading", 9, len, done=4)) == ["aa", "bbb"]
    assert "Reading" in sys.stderr.getvalue()
    assert "4/9" in sys.stderr.getvalue()
    assert "9/9" in sys.stderr.getvalue()
