"""A backbone's weights, from a file or the net, and its normalisation.

Legend: B images, P places, D width; C channels, H height, W width.
"""

import pytest
import timm
import torch
import torchvision
from helpers.encoders import CONFIGS, PUBLISHED, REFERENCES, build, efficientnet, pictures
from torchvision.transforms.v2 import functional

from autocaption.errors import UserError
from autocaption.models.encoders.backbone import Normalize


@pytest.fixture(name="images_BCHW", scope="module")
def images():
    return pictures()


@pytest.mark.parametrize("encoder", REFERENCES)
@torch.no_grad()
def test_weights_of_a_file(encoder, images_BCHW, tmp_path):
    reference = REFERENCES[encoder]()
    file = tmp_path / "net.pt"
    torch.save(reference.net.state_dict(), file)  # with its classifier
    floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    grid_BDHW = reference.features(functional.normalize(floats_BCHW, *reference.normal))
    grid_BPD = grid_BDHW.flatten(2).transpose(1, 2)
    for pooling, expected_BPD in (("grid", grid_BPD), ("mean", grid_BPD.mean(1, keepdim=True))):
        module = build(encoder, pretrained=True, weights=str(file), pooling=pooling).eval()
        torch.testing.assert_close(module(images_BCHW), expected_BPD, atol=1e-4, rtol=1e-4)


def refusal(encoder, file):
    with pytest.raises(UserError, match=r"model\.encoder\.weights") as raised:
        build(encoder, pretrained=True, weights=str(file) if file else None)
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_a_missing_file_is_named(encoder, tmp_path):
    assert "gone.pt" in refusal(encoder, tmp_path / "gone.pt")


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_weights_that_nothing_would_read_are_refused(encoder):
    with pytest.raises(UserError, match=r"weights=net.pt is not read with model.encoder.pretrained=false"):
        build(encoder, pretrained=False, weights="net.pt")


@pytest.mark.parametrize("encoder", PUBLISHED)
def test_failed_download_names_the_alternative(encoder, monkeypatch):
    def offline(make, asked):
        def made(*words, **options):
            if options.get(asked):
                raise OSError("no network")
            return make(*words, **options)

        return made

    monkeypatch.setattr(timm, "create_model", offline(timm.create_model, "pretrained"))
    get_model = offline(torchvision.models.get_model, "weights")
    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    assert CONFIGS[encoder].get("name", encoder) in refusal(encoder, None)


CONTENTS = {
    "no torch file": b"no weights\n",
    "broken zip": b"PK\x03\x04 weights",
    "empty": b"",  # EOFError without words
    "text": b"hello weights\n",  # KeyError
    "letters": b"rgb weights\n",  # IndexError
    "half a number": b"j",  # struct.error
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_file_that_is_no_state_dict_is_refused(content, tmp_path):
    (tmp_path / "notes.txt").write_bytes(content)
    assert "notes.txt" in refusal("efficientnet_lite0", tmp_path / "notes.txt")


@pytest.mark.parametrize("state", [{"weight": torch.zeros(2)}, {}, [1], {1: 2}, torch.zeros(2)], ids=repr)
@pytest.mark.parametrize("encoder", REFERENCES)
def test_a_state_dict_of_another_net_is_refused(encoder, state, tmp_path):
    torch.save(state, tmp_path / "other.pt")
    assert "other.pt" in refusal(encoder, tmp_path / "other.pt")


def test_half_a_state_dict_is_refused(tmp_path):
    state = efficientnet().net.state_dict()
    del state["conv_stem.weight"]
    torch.save(state, tmp_path / "half.pt")
    assert "half.pt" in refusal("efficientnet_lite0", tmp_path / "half.pt")


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_equals_torchvision_for_every_byte_and_channel():
    images_BCHW = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    floats_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    expected_BCHW = functional.normalize(floats_BCHW, list(MEAN), list(STD))
    torch.testing.assert_close(Normalize(MEAN, STD)(images_BCHW), expected_BCHW, atol=2e-6, rtol=0)


def test_constants_follow_the_module_but_not_the_checkpoint():
    module = Normalize(MEAN, STD).double()
    assert module(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).dtype == torch.float64
    assert module.state_dict() == {}
