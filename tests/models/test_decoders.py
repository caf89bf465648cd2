"""What every decoder of conf/ promises.

Legend: B images, N captions an image, T time, P places, D width, V vocabulary; R = B x N rows.
"""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from helpers import CONF
from helpers.decoders import DOUBLE, LANGUAGE_MODEL, D, P, V, hidden, ragged, require_extra, stepped
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from autocaption import build
from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.models.protocols import Attentive, State
from autocaption.search.state import expand, narrow, reorder

FILES = sorted((CONF / "model/decoder").glob("*.yaml"))
SMALL = {"embed_dim": 16, "hidden_dim": 16, "attention_dim": 12, "width": 16, "heads": 2, "dropout": 0.0}
SMALL |= LANGUAGE_MODEL


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def make(request):
    """Builds the decoder of one file, small, and the same each time."""
    require_extra(request.param.stem)

    def build(**changes):
        config = OmegaConf.load(request.param)
        if missing := changes.keys() - config.keys():
            pytest.skip(f"it has no {' or '.join(missing)}")
        config.update({key: value for key, value in {**SMALL, **changes}.items() if key in config})
        torch.manual_seed(0)
        return instantiate(config, vocab_size=V, memory_dim=D)

    return build


@torch.no_grad()
def test_step_repeated_equals_forward(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).eval()
    B, N, T = tokens_BNT.shape
    hidden_BNTD = hidden(decoder, memory_BPD, tokens_BNT)
    assert hidden_BNTD.shape[:3] == (B, N, T)
    state = expand(decoder.init_state(memory_BPD), N)
    logits_RTV, _ = stepped(decoder, state, tokens_BNT.flatten(0, 1))
    real_BNT = tokens_BNT != PAD
    expected_MV = logits_RTV.view(B, N, T, V)[real_BNT]
    torch.testing.assert_close(decoder.head(hidden_BNTD[real_BNT]), expected_MV, atol=1e-5, rtol=0)


@torch.no_grad()
def test_state_can_be_reordered(make, memory_BPD):
    decoder = make().to(DOUBLE).eval()
    first_RT, then_RT = torch.randint(EOS, V, (2, 6, 2))  # two rows an image
    order_R, images_B = torch.tensor([1, 1, 2, 3, 5, 4]), torch.tensor([2, 0])
    begun = expand(decoder.init_state(memory_BPD), 2)
    assert all(len(part) == 6 for part in tree_leaves(begun.rows))
    assert all(len(part) == 3 for part in tree_leaves(begun.images))
    logits_RTV, _ = stepped(decoder, begun, torch.cat([first_RT[order_R], then_RT], 1))
    _, state = stepped(decoder, begun, first_RT)
    kept_R = torch.tensor([4, 5, 0, 1])
    state = State(narrow(reorder(state, order_R).rows, kept_R), narrow(state.images, images_B))
    reordered_RTV, _ = stepped(decoder, state, then_RT[kept_R])
    torch.testing.assert_close(reordered_RTV, logits_RTV[kept_R, 2:], atol=1e-9, rtol=0)


def test_gradient_reaches_every_parameter(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).eval()  # batch statistics would hide a bias before them
    hidden_BNTD = hidden(decoder, memory_BPD, tokens_BNT)
    decoder.head(hidden_BNTD[tokens_BNT != PAD]).square().sum().backward()
    starved = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert starved == []


def test_memory_gets_a_gradient_from_its_own_captions_only(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).eval()
    memory_BPD.requires_grad_()
    hidden_BNTD = hidden(decoder, memory_BPD, tokens_BNT)
    hidden_BNTD[0][tokens_BNT[0] != PAD].sum().backward()
    assert memory_BPD.grad[0].any()
    assert not memory_BPD.grad[1:].any()


def test_overfits_four_captions(make):
    decoder = make()
    memory_BPD, tokens_BNT = torch.randn(4, P, D), ragged([5], [2], [7], [4])
    targets_BNT = F.pad(tokens_BNT[..., 1:], (0, 1))
    targets_BNT[(targets_BNT == PAD) & (tokens_BNT != PAD)] = EOS
    real_BNT = tokens_BNT != PAD
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    losses = []
    while len(losses) < 400 and (not losses or losses[-1] >= 0.05):
        logits_MV = decoder.head(hidden(decoder, memory_BPD, tokens_BNT)[real_BNT])
        loss = F.cross_entropy(logits_MV, targets_BNT[real_BNT])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05


def test_bfloat16_autocast_is_near_float32(make, memory_BPD, tokens_BNT):
    decoder = make().eval()
    memory_BPD, real_BNT = memory_BPD.float(), tokens_BNT != PAD
    expected_MV = decoder.head(hidden(decoder, memory_BPD, tokens_BNT)[real_BNT])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_MV = decoder.head(hidden(decoder, memory_BPD, tokens_BNT)[real_BNT])
        logits_RV, _ = decoder.step(tokens_BNT[:, 0, 0], decoder.init_state(memory_BPD))
    torch.testing.assert_close(logits_MV.float(), expected_MV, atol=0.05, rtol=0.05)
    assert logits_RV.isfinite().all()
    logits_MV.float().logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


def test_a_batch_of_one_image_can_be_trained_on(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).train()
    hidden_BNTD = hidden(decoder, memory_BPD[:1], tokens_BNT[:1])
    decoder.head(hidden_BNTD[tokens_BNT[:1] != PAD]).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


@torch.no_grad()
def test_captions_of_an_image_are_independent(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).eval()
    changed_BNT = tokens_BNT.clone()
    changed_BNT[0, 1, :3] = torch.tensor([BOS, V - 1, V - 2])  # longer than before, too
    others_BNT = (tokens_BNT != PAD).clone()
    others_BNT[0, 1] = False
    before_BNTD, after_BNTD = (
        hidden(decoder, memory_BPD, tokens_BNT),
        hidden(decoder, memory_BPD, changed_BNT),
    )
    torch.testing.assert_close(after_BNTD[others_BNT], before_BNTD[others_BNT], atol=1e-12, rtol=0)
    assert (after_BNTD[0, 1, 1] != before_BNTD[0, 1, 1]).any()


@torch.no_grad()
def test_hidden_does_not_depend_on_later_tokens(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).eval()
    changed_BNT = tokens_BNT.clone()
    changed_BNT[1, 1, 4] = (tokens_BNT[1, 1, 4] - EOS) % (V - EOS - 1) + EOS + 1  # another word
    before_TD, after_TD = (hidden(decoder, memory_BPD, t_BNT)[1, 1] for t_BNT in (tokens_BNT, changed_BNT))
    torch.testing.assert_close(after_TD[:4], before_TD[:4], atol=1e-12, rtol=0)
    assert (after_TD[4] != before_TD[4]).any()


def test_dropout_acts_in_training_only(make, memory_BPD, tokens_BNT):
    decoder = make(dropout=0.5).to(DOUBLE)
    real_BNT = tokens_BNT != PAD

    def logits():
        return decoder.head(hidden(decoder, memory_BPD, tokens_BNT)[real_BNT])

    decoder.train()
    assert not torch.equal(logits(), logits())
    decoder.eval()
    assert torch.equal(logits(), logits())


def test_word_dropout_replaces_words_in_training_only(make, memory_BPD, tokens_BNT):
    decoder = make(word_dropout=1.0).to(DOUBLE)
    unknown_BNT = tokens_BNT.where(tokens_BNT == PAD, UNK)
    assert torch.equal(hidden(decoder, memory_BPD, tokens_BNT), hidden(decoder, memory_BPD, unknown_BNT))
    decoder.eval()
    assert not torch.equal(hidden(decoder, memory_BPD, tokens_BNT), hidden(decoder, memory_BPD, unknown_BNT))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_model_trains_saves_loads_and_captions_the_same(file, tmp_path):
    require_extra(file.stem)
    tiny = ("data.source.train=8", "data.source.val=4", "data.source.size=32", "data.batch_size=4")
    model = ("model.encoder.image_size=32", "model.encoder.width=2", "model.encoder.out_dim=8")
    with initialize_config_dir(str(FILES[0].parents[2]), version_base="1.3"):
        words = ["tokenizer.min_count=1", f"model/decoder={file.stem}", "model.encoder.pooling=grid"]
        config = compose("train", [*tiny, *words, *model])
    small = {key: value for key, value in SMALL.items() if key in config.model.decoder}
    OmegaConf.update(config, "model.decoder", small, force_add=True)
    data, captioner = build.from_config(config)
    trainer = pl.Trainer(
        **{"accelerator": "cpu", "max_epochs": 1, "default_root_dir": tmp_path, "logger": False},
        **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
    )
    trainer.fit(captioner, data)
    assert float(trainer.callback_metrics["val/loss"]) > 0
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    saved = torch.load(tmp_path / "it.ckpt", weights_only=True)
    again = build.model_of(build.config_of(saved), saved).eval()
    batch = next(iter(data.val_dataloader()))
    captions = captioner.eval().caption(captioner.memory(batch))
    assert again.caption(again.memory(batch)) == captions


@torch.no_grad()
def test_attention_weights_are_shares_of_the_places(make, memory_BPD, tokens_BNT):
    decoder = make().to(DOUBLE).eval()
    if not isinstance(decoder, Attentive):
        pytest.skip("has no attention to show")
    tokens_BT = tokens_BNT[:2, 1]
    weights_BTP = decoder.attention(memory_BPD[:2], tokens_BT)
    assert weights_BTP.shape == (*tokens_BT.shape, P)
    sums_BT = weights_BTP.sum(-1)
    torch.testing.assert_close(sums_BT, (tokens_BT != PAD).to(DOUBLE))
    assert (weights_BTP >= 0).all()
    # Where all places look alike, none is looked at more (but for the places' own embeddings).
    order_P = torch.randperm(P)
    if not hasattr(decoder, "places"):
        shuffled_BTP = decoder.attention(memory_BPD[:2, order_P], tokens_BT)
        torch.testing.assert_close(shuffled_BTP, weights_BTP[..., order_P])


@pytest.mark.slow
def test_compiled_gives_the_same(make, memory_BPD, tokens_BNT):
    decoder = make().eval()
    memory_BPD, real_BNT = memory_BPD.float(), tokens_BNT != PAD
    expected_MD = hidden(decoder, memory_BPD, tokens_BNT)[real_BNT]
    decoder.compile(dynamic=True)
    found_MD = hidden(decoder, memory_BPD, tokens_BNT)[real_BNT]
    torch.testing.assert_close(found_MD, expected_MD, atol=1e-4, rtol=1e-4)
    found_MD.square().sum().backward()
    hidden(decoder, memory_BPD[:2], tokens_BNT[:2, :, :5])  # of another shape


@pytest.mark.parametrize("name", ["lstm", "attention", "updown"])
@torch.no_grad()
def test_a_fresh_lstm_keeps_most_of_its_cell_state(name):
    # Jozefowicz et al. (2015): with a bias of 1, a fresh forget gate is about sigmoid(1) = 0.73 open.
    config = OmegaConf.load(CONF / f"model/decoder/{name}.yaml")
    config.update({key: 64 for key in ("embed_dim", "hidden_dim", "attention_dim") if key in config})
    torch.manual_seed(0)
    decoder = instantiate(config, vocab_size=V, memory_dim=D).eval()
    state = decoder.init_state(torch.randn(50, P, D))
    kept = []
    for cell in (0.0, 1.0):
        leaves, spec = tree_flatten(state.rows)
        rows = tree_unflatten([torch.full_like(part, cell * (i % 2)) for i, part in enumerate(leaves)], spec)
        _, after = decoder.step(torch.full((50,), BOS), State(rows, state.images))
        kept.append(tree_leaves(after.rows)[1])
    assert (kept[1] - kept[0]).mean().item() == pytest.approx(0.73, abs=0.02)
