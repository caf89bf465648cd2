"""The LightningModule: its objective, its captions and its checkpoints.

Legend: B images, N captions an image, T time, P places, D width; C channels, H height, W width.
"""

import dataclasses
from itertools import pairwise
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch
from helpers import CONF
from hydra import compose, initialize_config_dir
from PIL import Image

from autocaption import build
from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import EOS, PAD, SPECIAL
from autocaption.models.losses import teacher_forced
from autocaption.models.protocols import Captions

TINY = [
    "data.source.train=8",
    "data.source.val=4",
    "data.source.test=2",
    "data.source.size=32",
    "data.batch_size=4",
    "tokenizer.min_count=1",
    "model.encoder.image_size=32",
    "model.decoder.embed_dim=8",
    "model.decoder.hidden_dim=8",
    "model.loss.label_smoothing=0.1",
    "search.max_length=6",
    "trainer.max_epochs=2",
    "optimizer.lr=0.02",
]
NARROW = ["model.encoder.width=2", "model.encoder.out_dim=8"]  # of the convnet


def config_of(*changes):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*TINY, *changes])


@pytest.fixture(scope="module")
def built():
    torch.manual_seed(0)
    data, captioner = build.from_config(config_of(*NARROW))
    return data, captioner.eval()


@pytest.fixture(name="batch", scope="module")
def first_batch(built):
    return next(iter(built[0].val_dataloader()))


@pytest.fixture(name="tokens_BNT")
def ragged(batch):
    """Captions of several lengths: one that is cut, one without a word, one that is none."""
    tokens_BNT = batch.tokens_BNT.clone()
    tokens_BNT[0, 0, 3:] = PAD
    tokens_BNT[0, 0, 2] = EOS
    tokens_BNT[1, 0, 2:] = PAD
    tokens_BNT[1, 0, 1] = EOS
    tokens_BNT[2, 0] = PAD
    return tokens_BNT


def objective(captioner, memory_BPD, tokens_BNT):
    batch = Batch((), (), tokens_BNT, Layout.of(tokens_BNT[..., 1:]))
    return captioner.loss(captioner.decoder, memory_BPD, batch)


def costs(decoder, memory_PD, tokens):
    """The cost of each real token after <bos>, one step at a time."""
    state, found = decoder.init_state(memory_PD[None]), []
    for before, target in pairwise(tokens):
        if target == PAD:
            break
        logits_RV, state = decoder.step(torch.tensor([before]), state)
        found.append(-logits_RV[0].log_softmax(-1)[target])
    return found


@torch.no_grad()
def test_score_is_the_mean_over_real_tokens(built, batch, tokens_BNT):
    _, captioner = built
    memory_BPD = captioner.memory(batch)
    expected = [
        cost
        for memory_PD, tokens_NT in zip(memory_BPD, tokens_BNT.tolist(), strict=True)
        for tokens in tokens_NT
        for cost in costs(captioner.decoder, memory_PD, tokens)
    ]
    assert len(teacher_forced(captioner.decoder, memory_BPD, tokens_BNT).targets_M) == len(expected)
    found = objective(captioner, memory_BPD, tokens_BNT)
    nll = found.logged["loss"]
    torch.testing.assert_close(nll, torch.stack(expected).mean(), atol=1e-5, rtol=0)
    assert found.total() > nll  # of an untrained model, the smoothed one is not the nll


@pytest.mark.parametrize("columns", [(0, 3), (0, 0, 0, 1), (0, 2, 0, 2)], ids=["time", "caption", "both"])
@torch.no_grad()
def test_padding_changes_nothing(built, batch, tokens_BNT, columns):
    _, captioner = built
    memory_BPD = captioner.memory(batch)
    padded_BNT = torch.nn.functional.pad(tokens_BNT, columns, value=PAD)
    assert padded_BNT.shape != tokens_BNT.shape
    found, expected = (objective(captioner, memory_BPD, tokens) for tokens in (padded_BNT, tokens_BNT))
    torch.testing.assert_close(found.total(), expected.total(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.logged, expected.logged, atol=1e-6, rtol=0)


def test_features_stand_for_images(built, batch):
    _, captioner = built
    memory_BPD = captioner.memory(batch)
    assert torch.equal(captioner.memory(dataclasses.replace(batch, features_BPD=memory_BPD)), memory_BPD)


def test_caption_is_the_best_one_found(built, batch):
    _, captioner = built
    memory_BPD = captioner.memory(batch)
    said = captioner.caption(memory_BPD)
    best_BT = captioner.search(captioner.decoder, memory_BPD).tokens_BKT[:, 0]
    words = [[captioner.tokenizer.vocabulary[i] for i in best_T] for best_T in best_BT.tolist()]
    assert said == [" ".join(w for w in line if w not in SPECIAL) for line in words]


def test_every_caption_of_the_search_is_given_the_best_one_first(built, batch):
    _, captioner = built
    memory_BPD = captioner.memory(batch)
    found = captioner.search(captioner.decoder, memory_BPD)
    assert found.tokens_BKT.shape[1] > 1
    for said, tokens_KT, scores_K in zip(
        captioner.captions(memory_BPD), found.tokens_BKT, found.scores_BK, strict=True
    ):
        kept_KT = tokens_KT[scores_K > -torch.inf]
        assert said == [captioner.tokenizer.decode(tokens_T.tolist()) for tokens_T in kept_KT]


def test_a_caption_that_does_not_exist_is_not_given(built, batch):
    _, captioner = built
    nothing = Captions(torch.full((1, 2, 3), EOS), torch.tensor([[-1.0, -torch.inf]]))
    with patch.object(captioner, "search", lambda *_: nothing):
        assert captioner.captions(captioner.memory(batch)) == [[""]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model after two epochs, and its checkpoint's file."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    data, captioner = build.from_config(config_of(*NARROW))
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(captioner, data)
    trainer.save_checkpoint(folder / "it.ckpt")
    return captioner.eval(), folder / "it.ckpt"


def test_a_checkpoint_is_enough_to_caption(trained, batch):
    captioner, file = trained
    saved = torch.load(file, weights_only=True)
    again = build.model_of(build.config_of(saved), saved).eval()
    assert again.tokenizer.vocabulary == captioner.tokenizer.vocabulary
    found, expected = (m.search(m.decoder, m.memory(batch)) for m in (again, captioner))
    assert torch.equal(found.tokens_BKT, expected.tokens_BKT)
    assert torch.equal(found.scores_BK, expected.scores_BK)
    assert again.recipe == captioner.recipe == saved["recipe"]
    assert set(saved["metrics"]) >= {"val/bleu4", "val/loss"}


def test_a_picture_is_prepared_as_in_training(trained, built, batch):
    captioner, file = trained
    again, transform, _ = build.for_pictures(torch.load(file, weights_only=True))
    data, _ = built
    source = data.source
    pictures = [source.read(image) for image in source.split("val")]
    images_BCHW = torch.stack([transform(picture, 0) for picture in pictures])
    assert torch.equal(images_BCHW, batch.images_BCHW)
    assert again.caption(again.encoder(images_BCHW)) == captioner.caption(captioner.memory(batch))
    assert transform(Image.new("RGB", (90, 50)), 0).shape == (3, 32, 32)


def test_a_checkpoint_needs_no_published_weights(tmp_path):
    config = config_of("model/encoder=efficientnet_lite0", "model.encoder.pretrained=false")
    _, captioner = build.from_config(config)
    encoder = captioner.recipe["config"]["model"]["encoder"]
    encoder.update(pretrained=True, weights=str(tmp_path / "gone.pt"))
    saved = {"recipe": captioner.recipe, "state_dict": captioner.state_dict()}
    again = build.model_of(build.config_of(saved), saved)
    for key, value in captioner.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_the_objective_has_the_decoder_s_penalty_and_the_nll_has_not():
    words = ("model=show_attend_tell", "model.decoder.attention_dim=8", "model.loss.label_smoothing=0")
    data, captioner = build.from_config(config_of(*NARROW, *words))
    batch = next(iter(data.val_dataloader()))
    captioner.eval()
    memory_BPD = captioner.memory(batch)
    found = objective(captioner, memory_BPD, batch.tokens_BNT)
    inputs_BNT = batch.tokens_BNT[..., :-1] * (batch.tokens_BNT[..., 1:] != PAD)
    penalty = captioner.decoder(memory_BPD, inputs_BNT).penalty
    assert penalty > 0.01
    torch.testing.assert_close(found.total() - found.logged["loss"], penalty, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("every", "until", "steps"),
    [(3, {"max_epochs": 1}, [3, 6, 8]), (3, {"max_steps": 5}, [3, 5]), (0, {"max_epochs": 1}, [8])],
)
def test_a_step_is_logged_where_a_logger_or_the_end_of_the_epoch_reads_it(every, until, steps, tmp_path):
    data, captioner = build.from_config(config_of(*NARROW, "data.batch_size=1"))
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(
        **{"default_root_dir": tmp_path, "accelerator": "cpu", "log_every_n_steps": every, **quiet, **until}
    )
    logged = []
    with patch.object(captioner, "log", lambda name, *_, **__: logged.append((trainer.global_step, name))):
        trainer.fit(captioner, data)
    assert [step for step, name in logged if name == "train/objective"] == steps
    assert [step for step, name in logged if name == "train/loss"] == steps
