"""A checkpoint's configuration with the changes of a command line."""

import pytest
from helpers import CONF
from helpers.configs import CHOICES, GIVEN, composed, plain
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from autocaption.config import MODEL_KEYS, changes_on_resume, replayed, require_secrets, with_overrides
from autocaption.errors import UserError
from autocaption.runs.provenance import without_secrets


def changed(base, *overrides, keys=None, name="train"):
    """The checkpoint's configuration after a command line, as plain values, interpolations kept."""
    config = with_overrides(base, composed(*overrides, name=name), overrides, keys)
    return OmegaConf.to_container(config, resolve=False)


@pytest.fixture(scope="module")
def base():
    """What a checkpoint carries that was trained far from the defaults."""
    return composed(
        *("data=flickr8k", "data.root=/old", "search=greedy", "search.max_length=7", "seed=3"),
        *(
            "model/encoder=resnet50",
            "optimizer.lr=0.5",
            "trainer.max_epochs=99",
            "trainer.precision=bf16-mixed",
        ),
    )


@pytest.mark.parametrize("choice", [c for c in CHOICES if not c.startswith(("experiment", "debug"))])
def test_a_choice_replaces_its_group_whole(base, choice):
    if choice.startswith("cluster="):  # about jobs, not about the run
        assert changed(base, choice) == plain(base)
        return
    new = composed(choice, *GIVEN)
    merged = with_overrides(base, new, [choice])
    group = choice.partition("=")[0].replace("/", ".")
    assert plain(OmegaConf.select(merged, group)) == plain(OmegaConf.select(new, group))
    others = [key for key in base if key != group.partition(".")[0]]
    assert plain(OmegaConf.masked_copy(merged, others)) == plain(OmegaConf.masked_copy(base, others))


def test_no_override_keeps_the_checkpoint_s_configuration(base):
    assert changed(base) == plain(base)


def test_group_and_value_overrides_combine(base):
    search = changed(base, "search=beam", "search.beam_size=9")["search"]
    assert search["_target_"] == "autocaption.search.beam.BeamSearch"
    assert (search["beam_size"], search["max_length"]) == (9, "${tokenizer.max_length}")


def test_value_override_keeps_its_neighbours(base):
    after = changed(base, "search.max_length=11", "optimizer.lr=0.1", "seed=4")
    assert after["search"] == {**plain(base)["search"], "max_length": 11}
    assert after["optimizer"] == {**plain(base)["optimizer"], "lr": 0.1}
    assert after["seed"] == 4
    assert after["model"] == plain(base)["model"]


def test_nested_choice_keeps_the_rest_of_its_group(base):
    after = changed(base, "model/encoder=convnet", "model.encoder.width=5")["model"]
    assert after["encoder"]["width"] == 5
    assert "pretrained" not in after["encoder"]
    assert after["decoder"] == plain(base)["model"]["decoder"]


def test_data_root_reaches_everything_that_refers_to_it(base):
    config = with_overrides(base, composed("data.root=/new"), ["data.root=/new"])
    assert config.data.root == config.data.source.root == "/new"
    assert config.data.augment_crop == 0.875  # of the checkpoint's data set, not of the default one
    assert changed(base, "data.root=/new")["data"]["source"]["root"] == "${data.root}"


def test_added_and_deleted_keys(base):
    after = changed(base, "+trainer.benchmark=true", "~trainer.gradient_clip_val", "~logger")
    trainer = plain(base)["trainer"]
    del trainer["gradient_clip_val"]
    assert after["trainer"] == {**trainer, "benchmark": True}
    assert "logger" not in after


def test_missing_keys_are_taken_from_the_composed_configuration(base):
    older, words = (
        OmegaConf.masked_copy(base, ["seed", "model"]),
        ("+extra.deep.key=1", "logger.wandb.project=p"),
    )
    expected = plain(composed(*words))
    assert changed(older, *words) == {**expected, **plain(older)}


@pytest.mark.parametrize("words", [["experiment=shapes"], ["debug=fast", "seed=8"]])
def test_experiment_or_debug_takes_the_command_line_alone(base, words):
    assert changed(base, *words) == plain(composed(*words))


def test_eval_takes_only_the_model_from_the_checkpoint(base):
    words = ("checkpoint=/x.ckpt", "data.split=val")
    after = changed(base, *words, keys=MODEL_KEYS, name="eval")
    expected = plain(composed(*words, name="eval"))
    for key in ("data", "tokenizer", "model", "search", "metrics"):
        expected[key] = plain(base)[key]
    expected["data"]["split"] = "val"
    expected["trainer"]["precision"] = "bf16-mixed"  # or its metrics would be others
    assert after == expected
    assert after["trainer"]["max_epochs"] != 99


@pytest.mark.parametrize("word", ["experiment=shapes", "debug=fast"])
def test_eval_keeps_the_model_whatever_recipe_is_named(base, word):
    after = changed(base, "checkpoint=/x.ckpt", word, keys=MODEL_KEYS, name="eval")
    assert after["model"] == plain(base)["model"]
    assert after["data"] == plain(base)["data"]
    composed_alone = plain(composed("checkpoint=/x.ckpt", word, name="eval"))
    assert after["trainer"]["limit_test_batches"] == composed_alone["trainer"]["limit_test_batches"]


def test_a_value_in_a_list(base):
    after = changed(base, "optimizer.betas.0=0.5")
    assert after["optimizer"]["betas"][0] == 0.5


def test_inputs_are_not_modified(base):
    new, words = composed("search=beam", "seed=7"), ["search=beam", "seed=7"]
    before = plain(base), plain(new)
    merged = with_overrides(base, new, words)
    merged.search.beam_size = 100
    assert (plain(base), plain(new)) == before


SECRETS = {"logger": {"token": "hunter2", "url": "x://me:hunter2@h"}, "list": [{"password": "hunter2"}]}


def test_a_secret_that_was_not_kept_is_named():
    kept = OmegaConf.create(without_secrets(SECRETS))
    require_secrets(OmegaConf.create(SECRETS))
    for key, value in (("logger.token", "a"), ("logger.url", "b"), ("list", [])):
        with pytest.raises(UserError, match=f"{key} is a secret"):
            require_secrets(kept)
        OmegaConf.update(kept, key, value)
    require_secrets(kept)


def test_a_secret_from_the_environment_is_kept():
    config = {"token": "${oc.env:TOKEN}"}
    require_secrets(OmegaConf.create(without_secrets(config)))
    assert without_secrets(config) == config


def test_a_secret_that_is_given_again_is_no_change():
    kept = OmegaConf.create(without_secrets({"data": {"source": SECRETS}, "seed": 1}))
    again = OmegaConf.create({"data": {"source": SECRETS}, "seed": 1})
    assert changes_on_resume(kept, again) == {}
    again.data.source = {**SECRETS, "logger": None}
    with pytest.raises(UserError) as raised:
        changes_on_resume(kept, again)
    assert "hunter2" not in str(raised.value)


def test_a_run_of_another_config_folder_resumes_without_it_unless_a_choice_goes_on_top():
    earlier, alone = ["experiment=of_mine", "trainer.max_epochs=3"], composed("seed=1")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = replayed("train", earlier[1:], ["trainer=cpu"], alone)
        assert (found.trainer.accelerator, found.trainer.max_epochs) == ("cpu", 3)
        assert replayed("train", earlier, ["trainer.max_epochs=7", "resume=RUN"], alone) is alone
        with pytest.raises(UserError, match=r"trainer=cpu.*experiment/of_mine is not found.*--config-dir"):
            replayed("train", earlier, ["resume=RUN", "trainer=cpu"], alone)


def test_a_first_key_below_an_empty_group_is_a_change_of_its_own():
    before, after = composed(), composed("+learning_rates.encoder=0.5")
    with pytest.raises(UserError, match=r"cannot change learning_rates\.encoder \(from None to 0\.5\)"):
        changes_on_resume(before, after)
