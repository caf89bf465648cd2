"""The Python API: what pictures it takes, what it says of them, and that importing it loads no torch.

Legend: B images, K captions an image, T time.
"""

import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers.checkpoints import pictures_of, save_tiny
from PIL import Image

import autocaption
from autocaption.data.tokenizer import BOS, EOS
from autocaption.errors import UserError
from autocaption.models.word_maps import word_maps


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """(a checkpoint's path, the model that it was saved from, its data)."""
    return save_tiny(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def model(checkpoint):
    return autocaption.load(checkpoint[0], device="cpu")


@pytest.fixture(scope="module")
def attending(tmp_path_factory):
    path, *_ = save_tiny(tmp_path_factory.mktemp("attending"), "attention")
    return autocaption.load(path, device="cpu")


@pytest.fixture(scope="module")
def pictures(checkpoint):
    return pictures_of(checkpoint[2])


def as_png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_the_public_names():
    assert all(hasattr(autocaption, name) for name in autocaption.__all__)
    assert {"load", "CaptionModel", "Caption", "Captioner"} <= set(autocaption.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        autocaption.nothing  # noqa: B018


def test_captions_are_those_of_the_trained_model(checkpoint, model, pictures):
    _, trained, data = checkpoint
    images = [data.evaluation_transform(one, 0) for one in pictures]
    with torch.inference_mode():
        memory_BPD = trained.encoder(torch.stack(images))
        found = trained.search(trained.decoder, memory_BPD)
    captions = model.caption(pictures, k=3)
    assert [[one.text for one in three] for three in captions] == trained.captions(memory_BPD)
    scores_BK = np.array([[one.score for one in three] for three in captions])
    np.testing.assert_allclose(scores_BK, found.scores_BK, rtol=1e-5)


def test_a_picture_may_come_as_anything(model, pictures, tmp_path):
    picture = pictures[0]
    path = tmp_path / "it.png"
    picture.save(path)
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = model.caption(picture, k=3)
    given = [path, str(path), path.read_bytes(), array, tensor, picture.convert("RGBA"), model.prepare(path)]
    given += [bytearray(path.read_bytes()), memoryview(path.read_bytes())]
    with open(path, "rb") as file:
        assert model.caption(file, k=3) == expected
    assert model.caption([io.BytesIO(path.read_bytes())], k=3) == [expected]
    for one in given:
        assert model.caption(one, k=3) == expected
    texts = [[caption.text for caption in expected]] * len(given)
    for found in (model.caption(given, k=3, batch_size=2), model.caption(iter(given), k=3)):
        assert [[caption.text for caption in three] for three in found] == texts
    assert model.caption([]) == []


def test_grey_arrays_and_pictures_are_alike(model, pictures):
    grey = pictures[0].convert("L")
    values = np.asarray(grey)
    expected = model.caption(grey)
    for one in (values, values[..., None], torch.from_numpy(values.copy())[None]):
        assert model.caption(one) == expected


def test_exif_counts_in_bytes_and_in_pillow_s_pictures(model, pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = pictures[1].transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    expected = model.prepare(pictures[1]).pixels_CHW
    assert torch.equal(model.prepare(file.getvalue()).pixels_CHW, expected)
    assert torch.equal(model.prepare(Image.open(file)).pixels_CHW, expected)
    assert not torch.equal(model.prepare(turned).pixels_CHW, expected)


def closed(file):
    file.close()
    return file


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gone.png", r"picture not found: gone\.png"),
        (b"no picture", "broken picture: a picture \\(bytes\\): it is not an image"),
        (io.BytesIO(b"no picture"), "broken picture: a picture \\(BytesIO\\): it is not an image"),
        (io.StringIO("text"), "a picture \\(StringIO\\) is open as text"),
        (io.TextIOWrapper(io.BytesIO(b"\x89PNG")), "is open as text"),  # whose characters can't even be read
        ("a\0b.png", "cannot read the picture .*null"),
        ("~no_such_user/a.png", "cannot read the picture ~no_such_user"),
        (closed(io.BytesIO(b"")), "cannot read the picture .*closed"),
        (Image.new("RGB", (0, 5)), "broken picture: .*it has 0 x 5 pixels"),
        (3, "int"),
        (None, "NoneType"),
        (np.zeros((4, 4, 3)), r"shape \(4, 4, 3\) and type float64"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"or a list of them"),
        (torch.zeros(5, 4, 3, dtype=torch.uint8), "uint8 tensor"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        ([b"", "x.png"], "a picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(model, given, message):
    with pytest.raises(UserError, match=message) as caught:
        model.caption(given)
    assert "\n" not in str(caught.value)
    assert "data." not in str(caught.value)  # there is no data set


def test_a_picture_of_too_many_pixels_is_refused(model, pictures):
    picture = pictures[0]
    with pytest.raises(UserError, match=r"a: it has 64 x 64 pixels, more than 4000"):
        model.prepare(as_png(picture), name="a", max_pixels=4000)
    with pytest.raises(UserError, match=r"a: it has over 200 pixels, more than 100"):
        model.prepare(as_png(picture), name="a", max_pixels=100)
    with pytest.raises(UserError, match="more than 100"):
        model.prepare(picture, max_pixels=100)


def test_a_probability_is_that_of_the_words_one_after_the_other(model, pictures):
    drawn = {"search": "sample", "temperature": 2.0, "max_length": 8}
    for search in ({"search": "beam", "length_penalty": 0.7, "max_length": 8}, drawn, {}):
        for caption in model.caption(pictures[2], k=3, **search):
            prepared = model.prepare(pictures[2])
            decoder = model.captioner.decoder
            with torch.inference_mode():
                memory_BPD = model.captioner.encoder(prepared.pixels_CHW[None])
                inputs_BNT = torch.tensor([[[BOS, *caption.tokens]]])
                logp_TV = decoder.head(decoder(memory_BPD, inputs_BNT).hidden_BNTD)[0, 0].log_softmax(-1)
            ended = [*caption.tokens, EOS][:8]  # search.max_length
            expected = sum(float(logp_TV[time, token]) for time, token in enumerate(ended))
            assert caption.log_probability == pytest.approx(expected, rel=1e-4)
            assert caption.probability == pytest.approx(math.exp(expected), rel=1e-3)
            penalty = search.get("length_penalty", 0)
            assert caption.score == pytest.approx(expected / len(ended) ** penalty, rel=1e-4)
            assert caption.words == caption.text.split()


def test_k_widens_a_search_that_can_give_several(model, pictures):
    assert [len(model.caption(pictures[0], k)) for k in (1, 2, 5)] == [1, 2, 5]  # beam 3, from the checkpoint
    assert len(model.caption(pictures[0], 4, "diverse_beam")) == 4
    assert len(model.caption(pictures[0], 8, "diverse_beam", groups=3)) == 8
    assert len(model.caption(pictures[0], 6, "sample")) == 6
    assert model.caption(pictures[0], 5) == model.caption(pictures[0], 5, beam_size=5)
    assert model.caption(pictures[0], search="beam", beam_size=1)[0].text == (
        model.caption(pictures[0], search="greedy")[0].text
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"k": "5"}, "k='5'"),
        ({"k": 2, "search": "greedy"}, "search=greedy gives 1 of the 2 captions"),
        ({"k": 5, "search": "beam", "beam_size": 3}, "raise beam_size"),
        ({"search": "best"}, "there is no search=best; take beam, consensus, diverse_beam, greedy, sample"),
        ({"search": "../search/beam"}, "there is no search"),
        ({"temperature": 0.5}, "the checkpoint's search has no setting temperature; it has .*beam_size"),
        ({"search": "sample", "temperature": 0}, r"search\.temperature=0"),
        ({"search": "sample", "temperature": "hot"}, r"search\.temperature=hot"),
        ({"beam_size": None}, r"search\.beam_size=null"),
        ({"_target_": "os.system"}, "has no setting _target_"),
        ({"k": 8, "search": "diverse_beam", "groups": 0}, r"search\.groups=0"),
        ({"k": 8, "search": "diverse_beam", "groups": "two"}, r"search\.groups=two"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"search": "sample", "temperature": object()}, "search=sample: .*object"),
        ({"search": "sample", "temperature": "${nowhere}"}, "search=sample: .*nowhere"),
    ],
)
def test_a_search_that_cannot_do_it_says_so(model, pictures, settings, message):
    with pytest.raises(UserError, match=message):
        model.caption(pictures[0], **settings)


def test_samples_depend_on_the_picture_and_the_seed_alone(model, pictures):
    draw = {"k": 3, "search": "sample", "temperature": 2.0}
    together = model.caption(pictures[:3], **draw)
    assert [[c.text for c in model.caption(one, **draw)] for one in pictures[:3]] == [
        [c.text for c in three] for three in together
    ]
    assert model.caption(pictures[0], seed=1, **draw) != together[0]


def test_numbers_may_be_numpy_s(model, pictures):
    settings = {"search": "beam", "beam_size": np.int64(4), "length_penalty": np.float32(0.5)}
    assert model.caption(pictures[0], k=np.int32(3), **settings) == model.caption(
        pictures[0], k=3, search="beam", beam_size=4, length_penalty=0.5
    )


def test_threads_may_share_a_model(model, pictures):
    jobs = [(one, k) for one in pictures[:5] for k in (1, 3)] * 2
    alone = [model.caption(*job) for job in jobs]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda job: model.caption(*job), jobs)) == alone


def test_bf16_is_near_full_precision(checkpoint, pictures):
    low, full = (autocaption.load(checkpoint[0], "cpu", precision) for precision in ("bf16-mixed", None))
    a, b = low.caption(pictures[0], search="greedy")[0], full.caption(pictures[0], search="greedy")[0]
    assert a.score != b.score
    assert a.score == pytest.approx(b.score, rel=0.3)


@pytest.mark.parametrize(
    ("word", "value"), [("device", "cuda:77"), ("device", "gpu?"), ("device", "meta"), ("precision", "bf16")]
)
def test_what_a_machine_lacks_is_one_line(checkpoint, word, value):
    with pytest.raises(UserError, match=f"{word}="):
        autocaption.load(checkpoint[0], **{word: value})


def test_load_of_a_missing_checkpoint_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"no\.ckpt"):
        autocaption.load(tmp_path / "no.ckpt")


def test_attention_has_a_map_for_each_word(attending, pictures):
    wide = pictures[0].resize((200, 100))
    caption = attending.caption(wide)[0]
    seen = attending.attention(wide)
    assert seen.words == caption.words
    side = attending.captioner.encoder.image_size // 16
    assert seen.maps.shape == (len(caption.words), side, side)
    np.testing.assert_allclose(seen.maps.sum((1, 2)), 1, rtol=1e-5)
    left, top, right, bottom = seen.seen
    assert (right - left) * 200 == pytest.approx((bottom - top) * 100)
    decoder, prepared = attending.captioner.decoder, attending.prepare(wide)
    with torch.inference_mode():
        memory_BPD = attending.captioner.encoder(prepared.pixels_CHW[None])
        weights_BTP = decoder.attention(memory_BPD, torch.tensor([[BOS, *caption.tokens[:-1]]]))
    np.testing.assert_allclose(seen.maps.reshape(len(caption.words), -1), weights_BTP[0], rtol=1e-5)


def test_attention_to_any_caption(attending, pictures):
    vocabulary = attending.captioner.tokenizer.vocabulary
    text = " ".join(vocabulary[5:8])
    one, other = attending.attention(pictures[0], [text, vocabulary[9]])
    assert (one.words, other.words) == (vocabulary[5:8], [vocabulary[9]])
    np.testing.assert_allclose(attending.attention(pictures[0], text).maps, one.maps, rtol=1e-5)
    assert attending.attention(pictures[0], []) == []
    assert attending.attention(pictures[0], "").words == []
    for wrong in (5, (text,), [text, None]):
        with pytest.raises(UserError, match="is no caption; give a text"):
            attending.attention(pictures[0], wrong)
    with pytest.raises(UserError, match=r"of 400 words is longer than the model's tokenizer.max_length"):
        attending.attention(pictures[0], "a dog " * 200)


def test_a_decoder_that_does_not_attend_says_so(model, pictures):
    with pytest.raises(UserError, match="LSTMDecoder doesn't attend"):
        model.attention(pictures[0])


class Syllables:
    """Spells a word in several tokens; even ones start a word."""

    def decode(self, ids):
        return "".join(f"{' ' * (i % 2 == 0)}{i}" for i in ids).strip()


class Looks(torch.nn.Linear):
    """Looks at the place of each input token, once it has said as many."""

    def attention(self, memory_BPD, tokens_BT):
        return torch.nn.functional.one_hot(torch.arange(tokens_BT.shape[1]) % 4, 4).expand(
            len(tokens_BT), -1, -1
        )


@dataclass(frozen=True)
class Grid:
    """An encoder, as far as word_maps asks."""

    grid_side: int | None


def test_a_word_of_several_tokens_has_their_mean_map():
    whole = (0.0, 0.0, 1.0, 1.0)
    (found,) = word_maps(Grid(2), Looks(1, 1), torch.zeros(1, 4, 2), [[4, 5, 8, 9]], Syllables(), whole)
    assert found.words == ["45", "89"]
    np.testing.assert_allclose(found.maps.reshape(2, 4), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    for places, side in ((1, 1), (3, None), (4, None)):  # the last are of two encoders
        with pytest.raises(UserError, match=rf"gives {places} place.*pooling=grid"):
            word_maps(Grid(side), Looks(1, 1), torch.zeros(1, places, 2), [[4]], Syllables(), whole)


def test_the_command_line_is_imported_without_torch():
    code = "import sys, autocaption, autocaption.cli; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
