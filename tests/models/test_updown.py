"""Up-Down against the equations of its paper, one image and one caption at a time."""

import torch
from helpers.decoders import DOUBLE, D, V

from autocaption.data.tokenizer import PAD
from autocaption.models.decoders.updown import UpDownDecoder


@torch.no_grad()
def test_states_are_those_of_the_paper(memory_BPD, tokens_BNT):
    torch.manual_seed(0)
    decoder = UpDownDecoder(
        V, D, embed_dim=5, hidden_dim=7, attention_dim=3, dropout=0.0, word_dropout=0.0
    ).to(DOUBLE)
    hidden_BNTD = decoder(memory_BPD, tokens_BNT).hidden_BNTD
    attention, language = (torch.nn.LSTMCell(n, 7).to(DOUBLE) for n in (7 + 7 + 5, 7 + 7))
    from_said, from_seen = decoder.attention_recur.weight.split(7, 1)
    attention.weight_ih.copy_(torch.cat([from_said, decoder.mean_gates.weight, decoder.word_gates.weight], 1))
    attention.weight_hh.copy_(from_seen)
    attention.bias_ih.copy_(decoder.word_gates.bias)
    language.weight_ih.copy_(decoder.language_gates.weight[:, :14])
    language.weight_hh.copy_(decoder.language_gates.weight[:, 14:])
    language.bias_ih.copy_(decoder.language_gates.bias)
    for cell in (attention, language):
        cell.bias_hh.zero_()
    for image, caption in ((0, 0), (1, 1), (1, 2)):
        places_PD, tokens_T = decoder.project(memory_BPD[image]), tokens_BNT[image, caption]
        seen = said = (torch.zeros(1, 7, dtype=DOUBLE),) * 2
        for time, token in enumerate(tokens_T[tokens_T != PAD]):
            seen = attention(
                torch.cat([said[0], places_PD.mean(0, keepdim=True), decoder.embed(token)[None]], 1), seen
            )
            scores_P1 = decoder.score((decoder.key(places_PD) + decoder.query(seen[0])).tanh())
            alpha_P = scores_P1.squeeze(1).softmax(0)
            said = language(torch.cat([(alpha_P @ places_PD)[None], seen[0]], 1), said)
            torch.testing.assert_close(hidden_BNTD[image, caption, time], said[0][0])
            weights_BTP = decoder.attention(memory_BPD[image, None], tokens_T[None])
            torch.testing.assert_close(weights_BTP[0, time], alpha_P)
