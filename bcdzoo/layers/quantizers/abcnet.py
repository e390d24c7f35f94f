"""ABC-Net's quantizers (Lin et al., NeurIPS 2017): weights and activations as sums of several binary bases."""

from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.folding import least_reaching
from bcdzoo.layers.lowering import LevelsValue, Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Levels, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign


class _ShiftedSigns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, shifts: Tensor) -> Tensor:
        return sign(weight + shifts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.sum(0), None


class MultiBaseWeight(WeightQuantizer):
    """``W ≈ Σ alpha_m·B_m`` with ``B_m = sign(W - mean(W) + u_m·std(W))``, u_m evenly from -1 to 1 (section 2.1).

    The alphas are the least-squares solution for the given bases, constant in the backward pass. Backward: each base's
    derivative is 1.

    Reconstruction: mean, deviation and alphas are those of each output channel, not of the whole layer.

    Args:
        bases: M, 2 or more.
    """

    def __init__(self, bases: int) -> None:
        super().__init__()
        self.bases = bases

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        rows = weight.flatten(1)
        std, mean = torch.std_mean(rows.detach(), dim=1, correction=0, keepdim=True)
        u = torch.linspace(-1, 1, self.bases, dtype=weight.dtype, device=weight.device)
        signs = _ShiftedSigns.apply(rows, u[:, None, None] * std - mean)
        alphas = least_squares(signs.detach(), rows.detach())
        return signs.reshape(-1, *weight.shape[1:]), alphas.flatten()


def least_squares(bases: Tensor, rows: Tensor) -> Tensor:
    """The alphas that minimize ``|row - Σ alpha_m·base_m|²`` of each row.

    Args:
        bases: Bases of ±1, (M, R, n).
        rows: Rows to approximate, (R, n).

    Returns:
        (M, R). Bases that are equal share their part.
    """
    gram = torch.einsum("mrn,lrn->rml", bases, bases)
    # equal bases make the Gram matrix singular; the ridge is far below a least-squares solution's own precision
    gram += 1e-6 * bases.shape[2] * torch.eye(len(bases), dtype=rows.dtype, device=rows.device)
    solution: Tensor = torch.linalg.solve(gram, torch.einsum("mrn,rn->rm", bases, rows))
    return solution.t()


class _Indicator(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shifted: Tensor) -> Tensor:
        ctx.save_for_backward(shifted)
        return sign(shifted - 0.5)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (shifted,) = ctx.saved_tensors
        passes: Tensor = (shifted >= 0) & (shifted <= 1)
        return grad * passes


class MultiBaseActivation(nn.Module):
    """``A ≈ Σ beta_n·H_n`` with ``H_n = +1`` where ``clip(x + v_n, 0, 1) >= 0.5``, else -1 (section 2.2).

    The shifts v and the betas are learned. Backward of H_n: 1 where the clip lets pass, 0 outside.

    Reconstruction: the initial shifts put the thresholds evenly from -1 to 1, standard deviations of a batch norm's
    output; the betas start at 1.

    Args:
        bases: N, 2 or more.

    Shape:
        (N, C, H, W) to :class:`Levels` of N bases.
    """

    def __init__(self, bases: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(0.5 - torch.linspace(-1, 1, bases))
        self.beta = nn.Parameter(torch.ones(bases))

    def forward(self, x: Tensor) -> Levels:
        return Levels(_Indicator.apply(x + self.shift[:, None, None, None, None]), self.beta)

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        thresholds = least_reaching(lambda x: x + self.shift - 0.5 >= 0, len(self.shift))
        signs = {f"x{i}": plan.add("binarize", x=x, threshold=t[None]) for i, t in enumerate(thresholds)}
        return LevelsValue(plan.add("stack", **signs), self.beta)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {"sign": output.values.numel()}
