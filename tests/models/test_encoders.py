"""What every encoder of conf/ promises.

Legend: B images, P places, D width; C channels, H height, W width.
"""

import math

import pytest
import torch
from helpers.encoders import CONFIGS, PUBLISHED, REFERENCES, SIZE, build, pictures


@pytest.fixture(name="images_BCHW", scope="module")
def images():
    return pictures()


def size(*tensors):
    return sum(tensor.numel() for tensor in tensors)


@pytest.mark.parametrize("encoder", CONFIGS)
@torch.no_grad()
def test_memory_shape(encoder):
    for pooling in {CONFIGS[encoder].get("pooling"), "grid"}:
        module = build(encoder, pooling=pooling).eval()
        images_BCHW = pictures(module.image_size)
        memory_BPD = module(images_BCHW)
        B, P, D = memory_BPD.shape
        assert (B, D, memory_BPD.dtype) == (3, module.out_dim, torch.float32)
        assert module.image_size == SIZE or "image_size" not in CONFIGS[encoder]
        if "pooling" in CONFIGS[encoder]:
            assert P > 1 if pooling == "grid" else P == 1
            assert (module.grid_side is not None) == (pooling == "grid")
            assert SIZE % math.sqrt(P) == 0  # the places are a square grid
        assert module.grid_side in (None, math.sqrt(P))
        near = 1e-4 * memory_BPD.abs().max().item()  # random deep networks give large numbers
        torch.testing.assert_close(module(images_BCHW[1:2]), memory_BPD[1:2], atol=near, rtol=0)


@torch.no_grad()
def test_convnet_vector_sees_where_things_are(images_BCHW):
    encoder = build("convnet", pooling="vector").eval()
    assert not torch.allclose(encoder(images_BCHW), encoder(images_BCHW.flip(-1)), atol=1e-3)


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_frozen_means_unchanged_by_training(encoder, images_BCHW):
    module = build(encoder, trainable="none").train()
    assert not any(p.requires_grad for p in module.parameters())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert not module(images_BCHW).requires_grad
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("encoder", REFERENCES)
@pytest.mark.parametrize("trainable", ["last_stage", "all"])
def test_only_what_is_trainable_changes(encoder, trainable, images_BCHW):
    reference = REFERENCES[encoder]()
    states = [stage.state_dict().values() for stage in reference.last_stage]
    expected = sum(size(*state) for state in states)
    if trainable == "all":
        expected = size(*reference.net.state_dict().values()) - size(*reference.classifier.parameters())
    module = build(encoder, trainable=trainable).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 1e-3, weight_decay=0.1)
    for _ in range(2):  # in train() after eval() too, as between a validation and the next epoch
        module.eval().train()
        module(images_BCHW).square().mean().backward()
        optimizer.step()
    after = module.state_dict()
    changed = [value for key, value in after.items() if not torch.equal(before[key], value)]
    assert size(*changed) == expected
    assert all(value.isfinite().all() for value in changed)
