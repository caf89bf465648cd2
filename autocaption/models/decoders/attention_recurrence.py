"""The recurrence of Show, Attend and Tell over packed sequences, with its gradient.

Whatever does not depend on the hidden state is one GEMM for all time steps, outside of the loop: the words'
part of the gates, the keys of the memory, and in the backward pass every weight gradient. The gradient of
the additive attention needs t = tanh(key + query) of all (row, place) pairs, which the forward pass keeps.

Legend: M packed tokens (time-major), T time, B images, R rows (longest first), P places, A width of
keys and queries, D width of the state, C width of the memory's values, G = 4 D gates in torch's
order (i, f, g, o).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from autocaption.data.packing import TimeMajor, slices
from autocaption.models.decoders.lstm_cell import Kept, advance, retreat, slopes


class Weights(NamedTuple):
    """Weights of the attention (eq. 4-5 of Xu et al. 2015), its scalar gate (4.2.1), and the LSTM (eq. 1).

    Attributes:
        query_AD: hidden state to query.
        score_A: tanh(key + query) to score.
        gate_D: hidden state to beta; gate_1 is its bias.
        recur_GX: context and hidden state, concatenated (X = C + D), to gates.
    """

    query_AD: Tensor
    score_A: Tensor
    gate_D: Tensor
    gate_1: Tensor
    recur_GX: Tensor


@torch.compiler.disable  # a loop over the steps of the longest caption
def attend(
    gates_MG: Tensor,
    memory: tuple[Tensor, Tensor],
    start: tuple[Tensor, Tensor],
    weights: Weights,
    packing: TimeMajor,
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden_MD, the gated context_MC and the attention weights alpha_MP of every token.

    Args:
        gates_MG: the words' part of the gates, biases included.
        memory: keys_BPA and values_BPC.
        start: the states h_BD and c_BD before the first token.
        weights: the recurrence's own.
        packing: how the tokens are packed.
    """
    device, dtype = gates_MG.device.type, weights.recur_GX.dtype
    within = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else dtype
    tensors = [tensor.to(dtype) for tensor in (gates_MG, *memory, *start, *weights)]
    with torch.autocast(device, enabled=False):
        return _Attend.apply(packing, within, *tensors)


class _Attend(Function):
    @staticmethod
    def forward(ctx: Any, packing: TimeMajor, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What `attend` returns; keeps what the gradient needs.

        Args:
            ctx: autograd's.
            packing: how the tokens are packed.
            dtype: of the recurrent products' operands.
            tensors: gates_MG, keys_BPA, values_BPC, h_BD, c_BD and the Weights, in order.
        """
        gates_MG, keys_BPA, values_BPC, h_BD, c_BD, *rest = tensors
        weights, image_R = Weights(*rest), packing.image_R
        D, C = h_BD.shape[1], values_BPC.shape[2]
        M, P, A = len(gates_MG), *keys_BPA.shape[1:]
        keys_RPA, values_RPC = keys_BPA[image_R], values_BPC[image_R]
        recur_XG = weights.recur_GX.to(dtype).T
        gates_MG = gates_MG.clone()
        both_MX = gates_MG.new_empty(M, C + D)  # the gated context and the hidden state before a token
        context_MC, cell_MD, tanh_MD, hidden_MD, alpha_MP, beta_M1 = (
            gates_MG.new_empty(M, width) for width in (C, D, D, D, P, 1)
        )
        tanh_MPA = gates_MG.new_empty(M, P, A)
        h, c = h_BD[image_R], c_BD[image_R]
        for at, rows in slices(packing.rows_T):
            h, c = h[:rows], c[:rows]
            query = (h @ weights.query_AD.T).unsqueeze(1)
            scores = torch.add(keys_RPA[:rows], query, out=tanh_MPA[at]).tanh_() @ weights.score_A
            alpha = torch.softmax(scores, 1, out=alpha_MP[at])
            context = context_MC[at]
            torch.bmm(alpha.unsqueeze(1), values_RPC[:rows], out=context.unsqueeze(1))
            beta = torch.addmv(weights.gate_1, h, weights.gate_D).sigmoid_().unsqueeze(1)
            beta_M1[at] = beta
            both = both_MX[at]
            torch.mul(context, beta, out=both[:, :C])
            both[:, C:] = h
            gates = gates_MG[at]
            gates += both.to(dtype) @ recur_XG
            h, c = advance(gates, c, Kept(cell_MD[at], tanh_MD[at], hidden_MD[at]))
        kept = (gates_MG, both_MX, context_MC, cell_MD, tanh_MD, alpha_MP, beta_M1, tanh_MPA)
        ctx.save_for_backward(*kept, values_BPC, c_BD, *weights)
        ctx.packing, ctx.dtype = packing, dtype
        return hidden_MD, both_MX[:, :C].clone(), alpha_MP.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the tensors of `forward`, from those of its three outputs."""
        return (None, None, *_Backward(ctx)(*grads))


class _Backward:
    """The gradient, backwards in time; a name with `d` in front is the loss's derivative by it."""

    def __init__(self, ctx: Any) -> None:
        self.packing, self.dtype = ctx.packing, ctx.dtype
        self.gates_MG, self.both_MX, self.context_MC, self.cell_MD, *rest = ctx.saved_tensors
        self.tanh_MD, self.alpha_MP, self.beta_M1, self.tanh_MPA, *rest = rest
        self.values_BPC, self.c_BD, *weights = rest
        self.weights = Weights(*weights)
        self.C = self.values_BPC.shape[2]
        self.slope_MG, self.through_MD = slopes(self.gates_MG, self.tanh_MD)

    def __call__(self, dhidden_MD: Tensor, dgated_MC: Tensor, dalpha_MP: Tensor) -> tuple[Tensor, ...]:
        """The gradients of the tensors of `attend`, in order."""
        image_R, weights = self.packing.image_R, self.weights
        recur_GX = weights.recur_GX.to(self.dtype)
        values_RPC, c_RD = self.values_BPC[image_R], self.c_BD[image_R]
        self.dgates_MG = torch.empty_like(self.gates_MG)
        self.dcontext_MC = torch.empty_like(self.context_MC)
        self.dquery_MA = self.dcontext_MC.new_empty(len(dhidden_MD), len(weights.score_A))
        self.dbeta_M = self.dcontext_MC.new_empty(len(dhidden_MD))
        self.dscore_A = torch.zeros_like(weights.score_A)
        self.dkeys_RPA = self.tanh_MPA.new_zeros(len(image_R), *self.tanh_MPA.shape[1:])
        dh_RD, dc_RD = torch.zeros_like(c_RD), torch.zeros_like(c_RD)
        steps = slices(self.packing.rows_T)
        for number in reversed(range(len(steps))):
            at, rows = steps[number]
            before = self.cell_MD[steps[number - 1][0]][:rows] if number else c_RD[:rows]
            dh, dc = dh_RD[:rows], dc_RD[:rows]  # rows that end here have zero gradients so far
            dh += dhidden_MD[at]
            dgates = self.dgates_MG[at]
            kept = (self.gates_MG[at], self.tanh_MD[at], self.slope_MG[at], self.through_MD[at])
            retreat(dgates, dh, dc, before, *kept)
            dboth = (dgates.to(self.dtype) @ recur_GX).to(dh.dtype)
            dh.copy_(dboth[:, self.C :])
            self._attention(at, rows, dboth[:, : self.C] + dgated_MC[at], dalpha_MP[at], values_RPC, dh)
        return self._whole(dh_RD, dc_RD)

    def _attention(
        self, at: slice, rows: int, dgated: Tensor, dalpha: Tensor, values_RPC: Tensor, dh: Tensor
    ) -> None:
        """From the gradient of the gated context to those of the keys and of the state before."""
        weights, beta, tanh = self.weights, self.beta_M1[at], self.tanh_MPA[at]
        dbeta = (dgated * self.context_MC[at]).sum(1, keepdim=True) * (beta - beta.square())
        dcontext = torch.mul(dgated, beta, out=self.dcontext_MC[at])
        alpha = self.alpha_MP[at]
        dalpha = torch.bmm(values_RPC[:rows], dcontext.unsqueeze(2)).squeeze(2) + dalpha
        descore = alpha * (dalpha - (alpha * dalpha).sum(1, keepdim=True))
        self.dscore_A += descore.flatten() @ tanh.flatten(0, 1)
        slope = 1 - tanh.square()
        self.dkeys_RPA[:rows].addcmul_(descore.unsqueeze(2), slope)
        dquery = torch.bmm(descore.unsqueeze(1), slope).squeeze(1) * weights.score_A
        self.dquery_MA[at], self.dbeta_M[at] = dquery, dbeta.squeeze(1)
        dh.addmm_(dquery, weights.query_AD).addcmul_(dbeta, weights.gate_D)

    def _whole(self, dh_RD: Tensor, dc_RD: Tensor) -> tuple[Tensor, ...]:
        """The rest: one product for all time steps, or a sum over the captions of an image."""
        before_MD = self.both_MX[:, self.C :]
        drecur_GX = self.dgates_MG.T.to(self.dtype) @ self.both_MX.to(self.dtype)
        images = [self._by_image(part) for part in (dh_RD, dc_RD, self.dkeys_RPA)]
        # Attention weights and gradients of contexts, image by image.
        alpha, dcontext = (self.packing.unpack(x).flatten(1, 2) for x in (self.alpha_MP, self.dcontext_MC))
        return (
            self.dgates_MG,
            images[2] * self.weights.score_A,
            alpha.transpose(1, 2) @ dcontext,
            images[0],
            images[1],
            self.dquery_MA.T @ before_MD,
            self.dscore_A,
            self.dbeta_M @ before_MD,
            self.dbeta_M.sum(0, keepdim=True),
            drecur_GX.to(dh_RD.dtype),
        )

    def _by_image(self, x_R: Tensor) -> Tensor:
        x_B = x_R.new_zeros(len(self.c_BD), *x_R.shape[1:])
        return x_B.index_add_(0, self.packing.image_R, x_R)
