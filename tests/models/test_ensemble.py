"""Ensembles of checkpoints, and what fine-tuning leaves alone."""

import pytest
import pytorch_lightning as pl
import torch
from helpers.configs import composed

from autocaption import build
from autocaption.data.tokenizer import BOS, EOS, PAD
from autocaption.errors import UserError
from autocaption.models.scheduled_sampling import scheduled_inputs

TINY = [
    *("data.source.train=8", "data.source.val=4", "data.source.size=32", "data.batch_size=4"),
    *("tokenizer.min_count=1", "model.encoder.image_size=32", "search.max_length=6"),
]
LSTM = ["model.encoder.width=2", "model.decoder.embed_dim=8", "model.decoder.hidden_dim=8"]
TRANSFORMER = ["model=transformer", "model.encoder.width=3", "model.decoder.width=8", "model.decoder.heads=2"]


def saved(seed, *changes):
    torch.manual_seed(seed)
    data, captioner = build.from_config(composed(*TINY, *changes))
    return {"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, data, captioner


def nll(captioner, batch):
    return captioner.loss(captioner.decoder, captioner.memory(batch), batch).logged["loss"]


@torch.no_grad()
def test_models_of_different_kinds_average_their_probabilities():
    (one, data, a), (two, _, b) = saved(0, *LSTM), saved(1, *TRANSFORMER)
    config = composed(*TINY, "search=greedy", *LSTM)
    _, ensemble = build.from_checkpoints(config, {"one": one, "two": two})
    batch = next(iter(data.val_dataloader()))
    members = [m.eval() for m in (a, b)]
    tokens_BNT = batch.tokens_BNT[..., :3]
    ensemble.eval()
    found = ensemble.decoder(ensemble.memory(batch), tokens_BNT).hidden_BNTD.exp()
    each = [m.decoder.head(m.decoder(m.memory(batch), tokens_BNT).hidden_BNTD).softmax(-1) for m in members]
    real_BNT = tokens_BNT != PAD
    torch.testing.assert_close(found[real_BNT], ((each[0] + each[1]) / 2)[real_BNT])
    assert len(ensemble.caption(ensemble.memory(batch), batch.ids)) == len(batch)
    assert nll(ensemble, batch).isfinite()


@torch.no_grad()
def test_an_ensemble_of_one_model_twice_is_the_model():
    one, data, model = saved(0, *LSTM)
    _, twice = build.from_checkpoints(composed(*TINY, "search=greedy", *LSTM), {"a": one, "b": one})
    batch = next(iter(data.val_dataloader()))
    model, twice = model.eval(), twice.eval()
    assert torch.is_tensor(twice.memory(batch))  # the encoder is theirs together
    torch.testing.assert_close(nll(twice, batch), nll(model, batch))


@torch.no_grad()
def test_each_member_sees_pictures_as_it_was_trained():
    sized = ("model.encoder.image_size=48", "data.fit=pad")
    trained = [saved(0, *LSTM), saved(1, *TRANSFORMER, *sized), saved(2, *LSTM)]
    checkpoints = {name: one for name, (one, _, _) in zip("abc", trained, strict=True)}
    data, ensemble = build.from_checkpoints(composed(*TINY, "search=greedy", *LSTM), checkpoints)
    batch = next(iter(data.val_dataloader()))
    assert batch.images_BCHW.shape[2:] == (32 + 48, 48)  # the first and the last share theirs
    memories = ensemble.eval().memory(batch)
    for (_, own, member), memory_BPD in zip(trained, memories, strict=True):
        expected_BPD = member.eval().memory(next(iter(own.val_dataloader())))
        torch.testing.assert_close(memory_BPD, expected_BPD)
    assert len(ensemble.caption(memories, batch.ids)) == len(batch)


def test_a_model_of_the_same_weights_that_sees_other_pictures_has_its_own_memory():
    one, _, _ = saved(0, *LSTM)
    other = {**one, "recipe": {**one["recipe"], "config": {**one["recipe"]["config"]}}}
    other["recipe"]["config"]["data"] = {**other["recipe"]["config"]["data"], "crop_share": 0.5}
    _, ensemble = build.from_checkpoints(composed(*TINY, *LSTM), {"a": one, "b": other})
    assert len(ensemble.encoder.encoders) == 2


def test_what_is_changed_of_the_first_is_changed_of_each():
    checkpoints = {name: saved(seed, *LSTM)[0] for seed, name in enumerate("ab")}
    changes = ("data.fit=squash", "model.decoder.dropout=0.125")
    data, ensemble = build.from_checkpoints(composed(*TINY, *LSTM, *changes), checkpoints)
    assert data.evaluation_transform.fit == "squash"
    dropouts = [
        [m.p for m in one.modules() if "Dropout" in type(m).__name__] for one in ensemble.decoder.decoders
    ]
    assert dropouts[0] == dropouts[1]
    assert 0.125 in dropouts[0]


def test_a_change_that_a_member_s_weights_do_not_fit_names_it():
    checkpoints = {name: saved(seed, *LSTM)[0] for seed, name in enumerate("ab")}
    with pytest.raises(UserError, match=r"^a: the checkpoint's weights don't fit"):
        build.from_checkpoints(composed(*TINY, *LSTM, "model.decoder.hidden_dim=9"), checkpoints)


def test_other_vocabularies_are_refused():
    one, _, _ = saved(0, *LSTM)
    fewer, _, _ = saved(0, *LSTM, "tokenizer.min_count=4")
    with pytest.raises(UserError, match=r"b\.ckpt.*vocabulary.*a\.ckpt"):
        build.from_checkpoints(composed(*TINY, *LSTM), {"a.ckpt": one, "b.ckpt": fewer})


def test_weights_of_another_model_are_refused():
    one, _, _ = saved(0, *LSTM)
    with pytest.raises(UserError, match="decoder"):
        build.from_checkpoint(composed(*TINY, *LSTM, "model.decoder.hidden_dim=9"), one)


BACKBONE = ["model/encoder=efficientnet_lite0", "model.encoder.pretrained=false", *LSTM[1:]]


@pytest.mark.parametrize("trainable", ["none", "last_stage"])
def test_frozen_means_bit_identical_after_training(trainable, tmp_path):
    words = (f"model.encoder.trainable={trainable}", "+learning_rates.encoder=0.1")
    torch.manual_seed(0)
    data, captioner = build.from_config(composed(*TINY, *BACKBONE, *words))
    before = {name: value.clone() for name, value in captioner.state_dict().items()}
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "max_epochs": 1, "default_root_dir": tmp_path, "logger": False},
        **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
        limit_val_batches=1,
    )
    trainer.fit(captioner, data)
    changed = {n for n, value in captioner.state_dict().items() if not torch.equal(before[n], value)}
    assert any(name.startswith("decoder.") for name in changed)
    moved = {name for name in changed if name.startswith("encoder.")}
    last = tuple(f"encoder.net.{part}." for part in ("blocks.6", "conv_head", "bn2"))
    assert all(name.startswith(last) for name in moved)
    assert bool(moved) == (trainable != "none")
    assert any("running_mean" in name for name in moved) == (trainable != "none")
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizers[0].param_groups}
    if trainable != "none":
        assert rates["encoder/matrices"] == pytest.approx(0.1 * rates["model/matrices"])


def test_scheduled_inputs_keep_the_layout():
    _, data, captioner = saved(0, *LSTM)
    decoder = captioner.decoder.eval()
    batch = next(iter(data.val_dataloader()))
    memory_BPD, tokens_BNT = captioner.memory(batch).detach(), batch.tokens_BNT
    inputs_BNT = tokens_BNT.where(tokens_BNT != EOS, PAD)
    assert torch.equal(scheduled_inputs(decoder, memory_BPD, inputs_BNT, 0.0), inputs_BNT)
    torch.manual_seed(0)
    mixed_BNT = scheduled_inputs(decoder, memory_BPD, inputs_BNT, 1.0)
    assert (mixed_BNT[..., 0] == BOS).all()
    assert torch.equal(mixed_BNT == PAD, inputs_BNT == PAD)
    words_M = mixed_BNT[..., 1:][inputs_BNT[..., 1:] != PAD]
    assert not set(words_M.tolist()) & {PAD, BOS, EOS}
    assert (words_M != inputs_BNT[..., 1:][inputs_BNT[..., 1:] != PAD]).float().mean() > 0.5
    # Where the model is sure, its words are those that it says: shifted to where they are read.
    with torch.no_grad():
        captioner.decoder.output.weight *= 1e4
        hidden_BNTD = decoder(memory_BPD, inputs_BNT).hidden_BNTD
        logits_BNTV = decoder.head(hidden_BNTD)
        logits_BNTV[..., [PAD, BOS, EOS]] = -torch.inf
    sure_BNT = scheduled_inputs(decoder, memory_BPD, inputs_BNT, 1.0)[..., 1:]
    real_BNT = inputs_BNT[..., 1:] != PAD
    assert torch.equal(sure_BNT[real_BNT], logits_BNTV.argmax(-1)[..., :-1][real_BNT])
