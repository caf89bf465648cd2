"""A pretrained encoder trained with its decoder. Legend: B images, P places, D width."""

import pytest
import torch
from helpers.commands import TINY
from helpers.configs import composed
from helpers.networks import build, pictures

from autocaption import build as builder
from autocaption.models.captioner import RECIPE

NETWORK = (
    *("model=transformer", "model/encoder=timm", "model.encoder.name=test_vit", "model.encoder.pooling=grid"),
    *("model.encoder.pretrained=false", "model.encoder.image_size=64", "model.decoder.width=16"),
    *("model.decoder.heads=2", "model.decoder.layers=1", "trainer=cpu"),
)
WORDS = [word for word in TINY if not word.startswith("model.")]


def captioner_of(*words):
    torch.manual_seed(0)
    return builder.from_config(composed(*WORDS, *NETWORK, *words))


def test_any_network_captions():
    data, captioner = captioner_of("model.encoder.prefix_tokens=class")
    batch = next(iter(data.val_dataloader()))
    memory_BPD = captioner.eval().memory(batch)
    assert memory_BPD.shape[1:] == (1 + 16, 64)
    captions = captioner.caption(memory_BPD, batch.ids)
    assert len(captions) == len(batch)
    assert all(isinstance(caption, str) for caption in captions)


def test_a_trained_encoder_starts_from_a_frozen_run():
    _, frozen = captioner_of()
    checkpoint = {RECIPE: frozen.recipe, "state_dict": frozen.state_dict()}
    words = ("model.encoder.trainable=all", "layer_decay=0.5", "+learning_rates.encoder=0.1")
    config = composed(*WORDS, *NETWORK, *words)
    data, captioner = builder.from_checkpoint(config, checkpoint)
    assert all(value.equal(frozen.state_dict()[name]) for name, value in captioner.state_dict().items())
    optimizer, _ = captioner.optimizer_and_schedule(total_steps=10)
    peaks = {group["name"]: group["initial_lr"] for group in optimizer.param_groups}
    peak = peaks["model/matrices"]
    assert peaks["encoder/0/matrices"] == pytest.approx(0.1 * peak)
    assert peaks["encoder/6/matrices"] == pytest.approx(0.1 * peak / 2**6)  # six blocks, and a stem
    batch = next(iter(data.train_dataloader()))
    captioner.loss(captioner.decoder, captioner.memory(batch), batch, 0.0).total().backward()
    without = [name for name, parameter in captioner.named_parameters() if parameter.grad is None]
    assert all(name.startswith("encoder.net.") for name in without)  # an unused head
    assert without == [name for name, one in captioner.named_parameters() if not one.requires_grad]


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_gradient_checkpointing_computes_twice_and_changes_nothing(name):
    gradients, calls = [], []
    for checkpointing in (False, True):
        encoder = build("timm", name, trainable="all", gradient_checkpointing=checkpointing, freeze_norm=True)
        calls.append(0)

        def count(*_):
            calls[-1] += 1

        for module in encoder.net.modules():
            module.register_forward_hook(count)
        encoder(pictures(name)).square().mean().backward()
        gradients.append({key: one.grad for key, one in encoder.named_parameters() if one.grad is not None})
    assert calls[1] > 1.3 * calls[0]
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)
