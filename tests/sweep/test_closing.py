"""The sweeper that ends last writes the report, once."""

import pytest

from autocaption.sweep.closing import Closing
from autocaption.sweep.storage import open_storage
from autocaption.sweep.study import open_study

DEFINITION = {"objective": ["val/bleu4"], "direction": ["maximize"]}


@pytest.fixture
def sweeper(tmp_path):
    def begin(total=2):
        storage = open_storage(f"journal:{tmp_path}/study.log")
        study = open_study(storage, "study", DEFINITION, [], [])
        return study, Closing(study, storage, total)

    return begin


def test_the_last_sweeper_reports_once(sweeper):
    (study, one), (_, two) = sweeper(), sweeper()
    first, second = study.ask(), study.ask()
    study.tell(first, 0.5)
    assert not one.take_on()  # a trial is running
    study.tell(second, 0.5)
    assert two.take_on()
    assert not one.take_on()


def test_a_later_command_reports_again(sweeper):
    study, one = sweeper(total=1)
    study.tell(study.ask(), 0.5)
    assert one.take_on()
    assert sweeper(total=1)[1].take_on()
    _, more = sweeper(total=2)
    _, same = sweeper(total=1)
    assert same.take_on()
    study.tell(study.ask(), 0.5)
    assert more.take_on()  # what was reported since has a trial less
