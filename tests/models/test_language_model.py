"""A language model as decoder, of any kind; test_decoders.py has what every decoder promises.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary; R rows (B x N).
"""

import shutil
import sys

import pytest
import torch
from helpers import CONF
from helpers.configs import composed
from helpers.decoders import DROPOUTS, GPT2, LLAMA, OPT, D, P, ragged, stepped
from omegaconf import OmegaConf

from autocaption import build
from autocaption.data.tokenizer import BOS, EOS, PAD, SPECIAL, UNK
from autocaption.errors import UserError
from autocaption.models.decoders.language_model import LanguageModelDecoder
from autocaption.models.optim import optimizer_of
from autocaption.search.beam import BeamSearch
from autocaption.search.state import expand

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
TOKENS = 40
BERT = {  # which reads both ways
    **{"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "intermediate_size": 16,
}
MAMBA = {"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 1}  # without keys and values


def make(**changes):
    config = OmegaConf.to_container(OmegaConf.load(CONF / "model/decoder/language_model.yaml"))
    given = {name: value for name, value in config.items() if not name.startswith("_")}
    torch.manual_seed(0)
    own = {"architecture": GPT2, "prefix_length": 3, **changes}
    return LanguageModelDecoder(vocab_size=TOKENS + len(SPECIAL), memory_dim=D, **{**given, **own})


def randomized(decoder):
    """Weights that say something, since those of a new model say nearly nothing."""
    with torch.no_grad():
        for parameter in decoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


def words_of(tokenizers, *texts):
    """A tokenizer of whole words, and GPT-2's only special token."""
    known = sorted({word for text in texts for word in text.split()})
    vocabulary = {name: i for i, name in enumerate(["<|endoftext|>", *known])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    """A folder of a model and its tokenizer, as transformers writes them; rows are padded by one."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = words_of(tokenizers, "a an and red green blue circle square triangle small large " + "x y z")
    config = transformers.AutoConfig.for_model(**GPT2, vocab_size=tokenizer.get_vocab_size() + 1)
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "lm")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.mark.parametrize("mapper_layers", [0, 1])
@pytest.mark.parametrize("architecture", [GPT2, LLAMA, OPT], ids=lambda one: one["model_type"])
@torch.no_grad()
def test_logits_are_the_model_s_own_after_prefix_and_words(architecture, mapper_layers):
    heads = {"mapper_layers": mapper_layers, "mapper_heads": 2}
    decoder = randomized(make(architecture=architecture, **heads))
    memory_BPD, tokens_BNT = torch.randn(2, P, D), ragged([5, 1, 3], [2, 7, 0])
    logits_BNTV = decoder.head(decoder(memory_BPD, tokens_BNT).hidden_BNTD)
    state = expand(decoder.init_state(memory_BPD), 3)
    stepped_RTV, _ = stepped(decoder, state, tokens_BNT.flatten(0, 1))
    prefix_BLD = decoder.mapper(memory_BPD)
    kept = [i for i in range(TOKENS) if i not in decoder.own.tolist()]
    assert 0 < TOKENS - len(kept) <= 2
    for b, captions_NT in enumerate(tokens_BNT):
        for n, tokens_T in enumerate(captions_NT):
            words_T = tokens_T[tokens_T > 0]
            if not len(words_T):
                continue
            table = torch.cat([decoder.special.weight, decoder.model.get_input_embeddings().weight])
            x_1TD = torch.cat([prefix_BLD[b], table[words_T]]).unsqueeze(0)
            own_TV = decoder.model(inputs_embeds=x_1TD).logits[0, 3:]
            for found_TV in (logits_BNTV[b, n], stepped_RTV[3 * b + n]):
                words_TV = found_TV[: len(words_T), len(SPECIAL) :]
                torch.testing.assert_close(words_TV[:, kept], own_TV[:, kept], atol=1e-4, rtol=1e-4)


def test_what_is_trained_is_what_the_configuration_says():
    memory_BPD, tokens_BNT = torch.randn(2, P, D), ragged([5, 3], [2, 7])
    before = make().model.state_dict()
    mapping = {"special", "special_head", "mapper"}
    for trainable, parts in (("none", mapping), ("lora", {*mapping, "model"}), ("all", {*mapping, "model"})):
        decoder = make(trainable=trainable).train()
        trained = [name for name, p in decoder.named_parameters() if p.requires_grad]
        assert {name.partition(".")[0] for name in trained} == parts
        optimizer = optimizer_of(decoder, lambda groups: torch.optim.AdamW(groups, lr=0.1), {})
        for group in optimizer.param_groups:
            assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] > 0}
        for _ in range(2):  # half of LoRA has no gradient in the first
            optimizer.zero_grad()
            decoder.head(
                decoder(memory_BPD, tokens_BNT).hidden_BNTD[tokens_BNT > 0]
            ).square().sum().backward()
            optimizer.step()
        after = decoder.model.state_dict()
        plain = {name.replace(".base_layer", ""): value for name, value in after.items()}
        same = all(torch.equal(value, plain[name]) for name, value in before.items())
        assert same == (trainable != "all")
        if trainable == "lora":
            adapters = {name: p for name, p in decoder.named_parameters() if "lora_" in name}
            assert adapters.keys() == {name for name in trained if name.startswith("model.")}
            assert all(p.any() for p in adapters.values())


@torch.no_grad()
def test_lora_begins_as_the_frozen_model():
    memory_BPD, tokens_BNT = torch.randn(2, P, D), ragged([5, 3], [2, 7])
    hidden = []
    for trainable in ("none", "lora"):
        decoder = make(trainable=trainable).eval()
        decoder.mapper.load_state_dict(make().mapper.state_dict())  # LoRA's draws come before it
        hidden.append(decoder(memory_BPD, tokens_BNT).hidden_BNTD)
    torch.testing.assert_close(*hidden)


@torch.no_grad()
def test_a_frozen_model_has_no_dropout_of_its_own():
    memory_BPD, tokens_BNT = torch.randn(2, P, D), ragged([5, 3], [2, 7])
    dropping = {**GPT2, **dict.fromkeys(DROPOUTS, 0.5)}
    for trainable, same in (("none", True), ("lora", False), ("all", False)):
        decoder = make(architecture=dropping, trainable=trainable).train()
        one, other = (decoder(memory_BPD, tokens_BNT).hidden_BNTD for _ in range(2))
        assert torch.equal(one, other) == same


@torch.no_grad()
def test_no_kernel_of_attention_plans_anew_for_each_length():
    decoder, planning = make().eval(), []
    decoder.model.base_model.register_forward_pre_hook(
        lambda *_: planning.append(torch.backends.cuda.cudnn_sdp_enabled())
    )
    decoder(torch.randn(2, P, D), ragged([5, 3], [2, 7]))
    assert planning == [False, False]  # of the prefix, and of the words
    assert torch.backends.cuda.cudnn_sdp_enabled()


@torch.no_grad()
def test_special_tokens_begin_as_the_model_s_own_which_are_never_said_themselves():
    decoder = make(architecture=LLAMA)  # whose bos is 0, and eos 1; input and output aren't tied
    model, ours = decoder.model, decoder.special.weight
    embeddings, hidden_RD = model.get_input_embeddings().weight, torch.randn(5, 16)
    assert torch.equal(ours[[BOS, EOS]], embeddings[:2])
    torch.testing.assert_close(ours[[PAD, UNK]], embeddings.mean(0).expand(2, -1))
    logits_RV, own_RV = decoder.head(hidden_RD), model.lm_head(hidden_RD)
    torch.testing.assert_close(logits_RV[:, EOS], own_RV[:, 1])
    torch.testing.assert_close(logits_RV[:, len(SPECIAL) + 2 :], own_RV[:, 2:])
    assert (logits_RV[:, len(SPECIAL) : len(SPECIAL) + 2] < own_RV[:, :2] - 10).all()


def save(folder, *changes):
    """A model of the folder's and its data, as `train.py` makes them."""
    words = ("data.source.train=4", "data.source.val=2", "data.source.test=2", "data.source.size=32")
    small = (
        "model.encoder.width=2",
        "model.encoder.image_size=32",
        "search.max_length=6",
        "search.min_length=3",
    )
    choice = ("model/decoder=language_model", f"model.decoder.name={folder}", "model.decoder.prefix_length=2")
    own = ("tokenizer=pretrained", f"tokenizer.file={folder}")
    return build.from_config(composed(*words, *small, *choice, *own, *changes))


def is_of(decoder, folder):
    """Whether its language model has the folder's weights, beside those of LoRA."""
    saved = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    own = {name.replace(".base_layer", ""): value for name, value in decoder.model.state_dict().items()}
    return all(torch.equal(own[name], value) for name, value in saved.items())


@pytest.mark.parametrize("trainable", ["none", "lora"])
def test_a_checkpoint_is_enough_without_the_folder_it_began_from(folder, trainable, tmp_path):
    _, captioner = save(folder, f"model.decoder.trainable={trainable}")
    assert is_of(captioner.decoder, folder)
    for parameter in captioner.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save({"recipe": captioner.recipe, "state_dict": captioner.state_dict()}, tmp_path / "x.ckpt")
    images_BCHW = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = captioner.eval().caption(captioner.encoder(images_BCHW))
        assert any(expected)
        shutil.rmtree(folder)
        saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
        assert str(folder) not in str(saved["recipe"]["architecture"])
        again, *_ = build.for_pictures(saved)
        assert again.caption(again.encoder(images_BCHW)) == expected
    assert again.recipe["architecture"] == captioner.recipe["architecture"]


def test_rows_that_no_token_has_are_never_said(folder):
    _, captioner = save(folder)
    vocabulary = captioner.tokenizer.vocabulary
    assert captioner.decoder.model.get_input_embeddings().num_embeddings == len(vocabulary) - len(SPECIAL) + 1
    assert captioner.decoder.head(torch.randn(2, 16)).shape == (2, len(vocabulary))


def test_sizes_are_found_without_weights_or_vocabulary(folder):
    config = composed("model/decoder=language_model", f"model.decoder.name={folder}").copy()
    (folder / "model.safetensors").unlink()
    assert build.fastest(config, "cpu") in ("32-true", "bf16-mixed")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "/nowhere", "architecture": None}, "model.decoder.name=/nowhere: no such folder; name one"),
        ({"architecture": {"n_layer": 2}}, "model.decoder.architecture gives no causal language model: "),
        (
            {"architecture": {**GPT2, "n_head": 3}},
            "model.decoder.architecture gives no causal language model: ",
        ),
        ({"architecture": BERT}, "BertLMHeadModel can't be a decoder here: "),
        ({"architecture": MAMBA}, "MambaForCausalLM can't be a decoder here: "),
        (
            {"architecture": {**GPT2, "vocab_size": 90}},
            "the language model has 90 tokens and the tokenizer 40; ",
        ),
        (
            {"architecture": {**GPT2, "vocab_size": 39}},
            "the language model has 39 tokens and the tokenizer 40; ",
        ),
        ({"trainable": "some"}, "model.decoder.trainable=some: take none or lora or all"),
        ({"trainable": "lora", "lora_targets": ["nothing"]}, r"model.decoder.lora_targets=\['nothing'\]: "),
        ({"mapper_layers": 1, "mapper_heads": 3}, "model.decoder.mapper_heads=3 doesn't divide "),
    ],
)
def test_what_gives_no_decoder_is_one_line(changes, said):
    with pytest.raises(UserError, match=f"^{said}.*$") as refused:
        make(**changes)
    assert len(str(refused.value)) < 300


def test_a_model_that_is_nowhere_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"^model\.decoder\.name=some/model gives no causal language model: .*$"
    ):
        make(name="some/model", architecture=None)


def test_weights_that_are_missing_are_no_random_ones(folder):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(folder / "model.safetensors")
    del weights["transformer.ln_f.bias"]
    safetensors.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        UserError, match=r"^model\.decoder\.name=.*: its weights lack transformer\.ln_f\.bias$"
    ):
        make(name=str(folder), architecture=None)


def test_a_caption_that_is_too_long_for_the_model_is_one_line():
    with pytest.raises(
        UserError, match=r"^the language model reads 64 tokens at most; lower .*search\.max_length$"
    ):
        BeamSearch(2, 0.0, 80)(make(architecture={**GPT2, "eos_token_id": None}), torch.randn(1, P, D))


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_the_packages_the_extra_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}: pip install 'autocaption\[language_models\]'$"):
        make()
