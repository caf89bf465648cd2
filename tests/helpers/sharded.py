"""Gradients of a model in double precision, whole and sharded."""

from unittest import mock

import torch
from torch.distributed.device_mesh import init_device_mesh

from autocaption.data.packing import Layout
from autocaption.data.tokenizer import PAD
from autocaption.models.losses import cross_entropy, teacher_forced
from autocaption.models.sharding import shard
from helpers.configs import composed

IMAGES, CAPTIONS, LENGTH, PLACES, WIDTH, WORDS = 6, 3, 7, 4, 16, 30


def decoder_of(choice):
    from autocaption.build.parts import part

    torch.manual_seed(0)
    config = composed(f"model/decoder={choice}", "model.decoder.dropout=0")
    return part(config, "model.decoder", vocab_size=WORDS, memory_dim=WIDTH).double()


def batch():
    """Memory and captions without padding, so that each image counts the same."""
    generator = torch.Generator().manual_seed(1)
    memory_BPD = torch.rand(IMAGES, PLACES, WIDTH, generator=generator, dtype=torch.float64)
    tokens_BNT = torch.randint(4, WORDS, (IMAGES, CAPTIONS, LENGTH), generator=generator)
    assert (tokens_BNT != PAD).all()
    return memory_BPD, tokens_BNT


def gradients(decoder, memory_BPD, tokens_BNT):
    """{name: gradient} of the loss of a batch, which would be taken in single precision."""
    with mock.patch.object(torch.Tensor, "float", lambda tensor: tensor):
        layout = Layout.of(tokens_BNT[..., 1:])
        forced = teacher_forced(decoder, memory_BPD, tokens_BNT, layout)
        (cross_entropy(forced.logits_MV, forced.targets_M).objective + forced.penalty).backward()
    return {
        name: parameter.grad for name, parameter in decoder.named_parameters() if parameter.grad is not None
    }


def of_a_rank(rank, choice):
    """The mean of both ranks' gradients, each of half of the images."""
    decoder = decoder_of(choice)
    shard(decoder, init_device_mesh("cpu", (2,)))
    own = gradients(decoder, *(tensor[rank::2] for tensor in batch()))
    return {name: gradient.full_tensor() for name, gradient in own.items()}
