"""The signals that ask a command to stop, whatever it is at."""

import importlib.abc
import signal
import sys

import pytest
from helpers.commands import TINY
from helpers.configs import composed_with

from autocaption import experiment
from autocaption.commands import eval as evaluation
from autocaption.commands import train as training
from autocaption.evaluation import evaluate
from autocaption.launch.signals import STOPS, stopped_by_signals
from autocaption.runs.record import state_of
from autocaption.runs.run import PreemptedError


@pytest.fixture(autouse=True)
def not_ignored():
    """Ctrl-C is not ignored, as it is in a shell's background job."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_a_command_and_its_handlers_are_put_back(number):
    before = [signal.getsignal(one) for one in STOPS]
    with pytest.raises(PreemptedError) as stopped, stopped_by_signals():
        signal.raise_signal(number)
    assert stopped.value.code == (130 if number == signal.SIGINT else 143)
    assert [signal.getsignal(one) for one in STOPS] == before


def test_while_a_command_ends_only_ctrl_c_counts():
    after = []

    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGUSR1)
            after.append("saved")
            signal.raise_signal(signal.SIGINT)
            after.append("uploaded")

    with pytest.raises(PreemptedError) as stopped, stopped_by_signals():
        work()
    assert (after, stopped.value.code) == (["saved"], 130)


def test_ctrl_c_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopped_by_signals():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("stage", ["train", "test"])
def test_ctrl_c_in_lightnings_hands_is_an_interruption(tmp_path, stage):
    ctrl_c = {"callbacks.ctrl_c": {"_target_": "helpers.interruptions.CtrlC", "stage": stage}}
    config = composed_with({"run_dir": str(tmp_path), **ctrl_c}, *TINY, "trainer.max_epochs=1", "trainer=cpu")
    with pytest.raises(PreemptedError) as stopped, stopped_by_signals():
        experiment.train(config)
    assert stopped.value.code == 130
    assert state_of(tmp_path) == "interrupted"


class Kick(importlib.abc.MetaPathFinder):
    """Sends a signal as a module is looked for."""

    def __init__(self, name):
        self.name, self.is_found = name, False

    def find_spec(self, name, path, target=None):
        if name == self.name:
            signal.raise_signal(signal.SIGTERM)
            self.is_found = True


@pytest.mark.parametrize(
    ("command", "module"), [(training, experiment), (evaluation, evaluate)], ids=["train", "eval"]
)
def test_a_signal_amid_imports_waits_for_their_end(monkeypatch, command, module):
    parent, _, name = module.__name__.rpartition(".")
    monkeypatch.delattr(sys.modules[parent], name)  # and all is put back at the end
    monkeypatch.delitem(sys.modules, module.__name__)
    kick = Kick(module.__name__)
    monkeypatch.setattr("sys.meta_path", [kick, *sys.meta_path])
    with pytest.raises(PreemptedError), stopped_by_signals():
        command.run(None)
    assert kick.is_found
