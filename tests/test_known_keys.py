import re

import pytest

from autocaption.errors import UserError
from autocaption.known_keys import nearest, require_read


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["+scheduled_smapling=0.5"], "scheduled_sampling"),
        (["seed=1", "+data.batchsize=3"], "data.batch_size"),
        (["++split=val"], "data.split"),
        (["+lr=1e-3"], "optimizer.lr"),
    ],
)
def test_a_new_key_that_nothing_reads_is_refused_where_another_is_near(words, meant):
    with pytest.raises(UserError, match=rf"nothing reads .*; did you mean {meant}\?"):
        require_read(words)


@pytest.mark.parametrize("word", ["test=no", "data.check_images=Off", "++model.encoder.freeze_norm=false,no"])
def test_a_no_in_words_is_refused_where_a_truth_value_is_due(word):
    with pytest.raises(UserError, match=rf"^{re.escape(word)}: take true or false$"):
        require_read(["seed=1", word])


@pytest.mark.parametrize(
    "words",
    [
        ["+lr=1e-3", "optimizer.lr=${lr}"],
        ["tags=[no]", "task_name=off", "test=false,true", "+my_switch=no", "data.check_images=FALSE"],
        ["+my_note=3"],
        ["scheduled_smapling=0.5"],  # Hydra refuses it
        ["+trainer.limit_test_batches=2"],  # the Trainer reads what it likes
        ["+learning_rates.encoder=0.1", "++data.batch_size=3", "+init_from=x.ckpt"],
        ["+experiment=shapes", "+search=beam", "+sweep=demo", "+logger@other=csv", "~schedule", "-m"],
    ],
)
def test_other_words_are_left_alone(words):
    require_read(words)


def test_the_nearest_key_of_the_same_part_is_named():
    assert nearest("trainer.max_epoch") == "; did you mean trainer.max_epochs"
    assert nearest("max_epochs") == "; did you mean trainer.max_epochs"
    assert nearest("trainer.of_my_own") == ""
    assert nearest("callbacks.early_stopping.patience") == "; another choice of its group has it"
