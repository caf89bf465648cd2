"""Self-critical training, against REINFORCE by hand and the exact gradient of the expected reward.

Legend: B images, K samples an image, N captions an image, T time, P places, D width, V vocabulary.
"""

import itertools
from unittest.mock import patch

import numpy as np
import pytest
import torch
from helpers.configs import composed
from helpers.decoders import P, V, ragged
from hydra.utils import instantiate
from torch import nn

from autocaption import build
from autocaption.data.batch import Batch
from autocaption.data.packing import Layout
from autocaption.data.tokenizer import BOS, EOS, PAD, UNK
from autocaption.errors import UserError
from autocaption.models.losses import CrossEntropy
from autocaption.models.protocols import Decoded, State
from autocaption.models.self_critical import SelfCritical
from autocaption.search.greedy import GreedySearch
from autocaption.search.sampling import Sampler

WORDS = tuple(range(UNK + 1, 7))  # of the small vocabulary


class Table(nn.Module):
    """A decoder whose next word depends on the last one and the image; every caption can be listed."""

    def __init__(self, size=7):
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Parameter(torch.randn(size, size))
        self.frozen = nn.Dropout().eval()

    def forward(self, memory_BPD, tokens_BNT, layout=None):
        return Decoded(self.table[tokens_BNT] + memory_BPD.mean((1, 2)).view(-1, 1, 1, 1))

    def head(self, hidden):
        return hidden * torch.linspace(0.5, 1.5, hidden.shape[-1])

    def init_state(self, memory_BPD):
        return State(torch.zeros(len(memory_BPD)), memory_BPD.mean((1, 2)))

    def step(self, tokens_R, state):
        shift_R = state.images.repeat_interleave(len(tokens_R) // len(state.images))
        return self.head(self.table[tokens_R] + shift_R.unsqueeze(1)), state


def worth(ids, tokens_BKT):
    """A reward that any caption has: its words, weighed by their places."""
    return (tokens_BKT * (tokens_BKT > EOS) * np.arange(1, tokens_BKT.shape[2] + 1)).sum(2) / 10


def sampler(max_length=2, temperature=1.0, **settings):
    return Sampler(temperature, settings.pop("top_k", 0), 1.0, max_length, **settings)


def self_critical(samples=5, baseline="others", reward=worth, xe_weight=0.0, smoothing=0.0, **settings):
    return SelfCritical(sampler(**settings), samples, baseline, reward, xe_weight, smoothing)


def batch_of(tokens_BNT):
    ids = tuple(range(len(tokens_BNT)))
    return Batch(ids, (), tokens_BNT, Layout.of(tokens_BNT[..., 1:]))


@pytest.fixture(name="given")
def reference_captions():
    torch.manual_seed(2)
    tokens_BNT = ragged([4, 2], [3, 0]).clamp_max(6)
    tokens_BNT[tokens_BNT == 0] = PAD
    return batch_of(tokens_BNT)


def memory_of(images=2):
    return torch.randn(images, P, 3, generator=torch.Generator().manual_seed(5))


def transformer(**changes):
    sizes = {"width": 16, "heads": 2, "layers": 1, "dropout": 0.0, **changes}
    words = [f"model.decoder.{key}={value}" for key, value in sizes.items()]
    torch.manual_seed(0)
    return instantiate(composed("model=transformer", *words).model.decoder, vocab_size=V, memory_dim=3)


def logp(decoder, memory_PD, tokens, temperature=1.0):
    """log p of a caption, word by word, renormalised without the tokens that are never drawn."""
    allowed = [token for token in range(decoder.head(torch.zeros(0, 16)).shape[-1]) if token not in (0, 1, 3)]
    state, before, total = decoder.init_state(memory_PD[None]), BOS, 0.0
    for token in itertools.takewhile(lambda token: token != PAD, tokens):
        logits_1V, state = decoder.step(torch.tensor([before]), state)
        total += (logits_1V[0, allowed] / temperature).log_softmax(-1)[allowed.index(token)]
        before = token
    return total


@pytest.mark.parametrize("baseline", ["others", "greedy"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradient_is_that_of_reinforce_by_hand(given, baseline, temperature):
    decoder, memory_BPD, seen = transformer(), memory_of(), []

    def reward(ids, tokens_BKT):
        seen.append(tokens_BKT)
        return worth(ids, tokens_BKT)

    loss = self_critical(3, baseline, reward, max_length=5, temperature=temperature)
    found = torch.autograd.grad(loss(decoder, memory_BPD, given).total(), list(decoder.parameters()))
    (tokens_BKT,) = seen
    rewards_BK = worth((), tokens_BKT)
    terms = []
    for image, sample in itertools.product(range(2), range(3)):
        others = [rewards_BK[image, k] for k in range(3) if k != sample]
        base = np.mean(others) if baseline == "others" else rewards_BK[image, 3]
        tokens = tokens_BKT[image, sample].tolist()
        terms.append(
            (base - rewards_BK[image, sample]) * logp(decoder, memory_BPD[image], tokens, temperature)
        )
    expected = torch.autograd.grad(sum(terms) / 6, list(decoder.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    if baseline == "greedy":
        greedy = GreedySearch(5)(decoder.eval(), memory_BPD).tokens_BKT
        assert np.array_equal(tokens_BKT[:, 3:], greedy.numpy())


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_mean_gradient_is_that_of_the_expected_reward_whatever_the_baseline(baseline):
    decoder, memory_BPD = Table(), memory_of(1)
    captions = [(EOS, PAD), *((a, b) for a in WORDS for b in (EOS, *WORDS))]
    shares = []
    for tokens in captions:
        state, before, total = decoder.init_state(memory_BPD), BOS, 0.0
        for token in tokens:
            if token == PAD:
                break
            logits_1V, state = decoder.step(torch.tensor([before]), state)
            allowed_V = logits_1V[0].index_fill(0, torch.tensor([PAD, BOS, UNK]), -torch.inf)
            total += allowed_V.log_softmax(-1)[token]
            before = token
        shares.append(total.exp())
    shares = torch.stack(shares)
    assert shares.sum().item() == pytest.approx(1)
    rewards = torch.from_numpy(worth((), np.array([captions]))[0]).float()
    (expected,) = torch.autograd.grad(-(shares * rewards).sum(), decoder.table)
    torch.manual_seed(7)
    objective = self_critical(20_000, baseline)(decoder, memory_BPD, batch_of(ragged([2]).clamp_max(6)))
    (found,) = torch.autograd.grad(objective.total(), decoder.table)
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert objective.logged["reward"].item() == pytest.approx((shares * rewards).sum().item(), abs=0.02)


def test_cross_entropy_has_its_share(given):
    decoder, memory_BPD = transformer(), memory_of()
    given_alone = CrossEntropy(0.1)(decoder, memory_BPD, given)
    objectives = []
    for share in (0.0, 0.25, 1.0):
        torch.manual_seed(1)
        loss = self_critical(xe_weight=share, smoothing=0.1 if share else 0.0)
        objectives.append(loss(decoder, memory_BPD, given))
    none, some, only = objectives
    torch.testing.assert_close(only.total(), given_alone.total())
    torch.testing.assert_close(some.tokens, 0.25 * given_alone.tokens)
    torch.testing.assert_close(some.images, 0.75 * none.images)
    assert none.tokens == 0
    assert "loss" not in none.logged
    torch.testing.assert_close(some.logged["loss"], given_alone.logged["loss"])


def test_what_is_logged(given):
    objective = self_critical(2, "greedy", lambda ids, tokens_BKT: np.array([[1.0, 2, 5], [3, 4, 7]]))(
        Table(), memory_of(), given
    )
    assert objective.logged["reward"].item() == 2.5
    assert objective.logged["reward_baseline"].item() == 6
    assert 0 <= objective.logged["sample_length"].item() <= 2


def test_it_samples_without_dropout_and_trains_with_it(given):
    decoder, modes = transformer(dropout=0.5), []
    step, forward = decoder.step, decoder.forward
    decoder.layers[0].dropout.eval()  # as a frozen part
    with (
        patch.object(decoder, "step", lambda *a: (modes.append(("step", decoder.training)), step(*a))[1]),
        patch.object(
            decoder, "forward", lambda *a: (modes.append(("forward", decoder.training)), forward(*a))[1]
        ),
    ):
        self_critical()(decoder, memory_of(), given)
    assert set(modes) == {("step", False), ("forward", True)}
    assert decoder.training
    assert not decoder.layers[0].dropout.training


def test_under_autocast_the_gradient_reaches_every_parameter(given):
    decoder = transformer()
    with torch.autocast("cpu", torch.bfloat16):
        objective = self_critical(max_length=5)(decoder, memory_of(), given)
    objective.total().backward()
    assert all(p.grad is not None and p.grad.any() for p in decoder.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": 1}, "samples=1: take a whole number, 2"),
        ({"baseline": "mine"}, "baseline=mine"),
        ({"xe_weight": 1.1}, "xe_weight=1.1"),
        ({"xe_weight": 0.0, "smoothing": 0.1}, r"label_smoothing=0\.1 is of the cross-entropy"),
    ],
)
def test_values_out_of_range_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        self_critical(**changes)
    self_critical(samples=1, baseline="greedy")


def test_scheduled_sampling_without_cross_entropy_is_refused(given):
    with pytest.raises(UserError, match="scheduled_sampling is of the cross-entropy"):
        self_critical()(Table(), memory_of(), given, 0.1)


def test_sharded_weights_are_refused(monkeypatch, given):
    monkeypatch.setattr("autocaption.models.self_critical.is_sharded", lambda _: True)
    with pytest.raises(UserError, match="trainer=ddp"):
        self_critical()(Table(), memory_of(), given)


SHAPES = ("data.source.train=48", "data.source.val=2", "data.source.test=2", "data.source.size=32")


def test_the_reward_rises(caplog):
    words = ("model.encoder.image_size=32", "model.encoder.width=4", "model.encoder.out_dim=16")
    small = ("model.decoder.width=32", "model.decoder.heads=2", "model.decoder.layers=1")
    config = composed(
        *("model=transformer", "model/loss=self_critical", "tokenizer.min_count=1", "data.num_workers=0"),
        *(*SHAPES, *words, *small, "model.decoder.dropout=0", "data/augment=none", "data.batch_size=16"),
    )
    torch.manual_seed(0)
    data, captioner = build.from_config(config)
    batches = list(data.train_dataloader())
    optimizer, rewards = torch.optim.Adam(captioner.parameters(), lr=3e-3), []
    for criterion, epochs in ((CrossEntropy(0.0), 20), (captioner.loss, 12)):
        for batch in batches * epochs:
            objective = criterion(captioner.decoder, captioner.memory(batch), batch)
            optimizer.zero_grad()
            objective.total().backward()
            optimizer.step()
            if "reward" in objective.logged:
                rewards.append(objective.logged["reward"].item())
    assert "init_from=PATH" in caplog.text
    first, last = np.mean(rewards[:6]), np.mean(rewards[-6:])
    assert last > 1.1 * first > 0
