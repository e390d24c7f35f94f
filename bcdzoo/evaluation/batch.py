"""Check whether a network's logits depend on the rest of the batch, or on chance."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from bcdzoo.data.names import some
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.mode import STRICT
from bcdzoo.evaluation.model import EvalModel

_SAME_SHAPE = 1e-3  # of the logits' spread: the same arithmetic gives equal results, except on a GPU
_OTHER_SHAPE = 0.2  # another arithmetic: if rounding flips a sign, a binary network's logits change visibly


def batch_notes(model: EvalModel, batch_size: int) -> list[str]:
    """Return notes if a network's accuracy does not depend on the network alone.

    Checks whether modules are in evaluation mode, and runs images of noise: one twice alone, then in a batch with
    each of two others, if the batch size allows it.

    Args:
        model: Network in evaluation mode; it is run strictly.
        batch_size: Number of images per step.

    Raises:
        BcdzooError: The network cannot process two images at once.
    """
    model = replace(model, loaded=replace(model.loaded, model=STRICT.prepare(model.network)))
    size = model.preprocess.crop
    one, other, third = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0)).split(1)
    try:
        with torch.random.fork_rng():
            alone, again = _logits(model, one), _logits(model, one)
            beside, beside_third = alone, alone
            if batch_size > 1:
                beside, beside_third = (_logits(model, torch.cat([one, another])) for another in (other, third))
    except torch.OutOfMemoryError:
        return []  # the evaluation continues with smaller batches, or reports that it cannot
    except _NoiseError:
        return []  # it cannot process noise; errors on real images are reported later
    spread = float(torch.stack([alone, again, beside, beside_third]).std(dim=1).max()) if len(alone) > 1 else 1.0
    notes = []
    if _differ(alone, again, _SAME_SHAPE * spread):
        notes.append(
            f"{model.name}: two passes of one image give different logits, as with active dropout: the "
            "accuracy varies from run to run"
        )
    elif _differ(beside, beside_third, _SAME_SHAPE * spread) or _differ(alone, beside, _OTHER_SHAPE * spread):
        notes.append(
            f"{model.name}: the logits of an image depend on the rest of its batch, so the accuracy depends on "
            "the order of images and the batch size"
        )
    if training := [name or "the network" for name, module in model.network.named_modules() if _trains(module)]:
        notes.append(f"{model.name}: {some(training)} stayed in training mode")
    return notes


class _NoiseError(Exception):
    """A network fails on an image of noise."""


def _logits(model: EvalModel, images: Tensor) -> Tensor:
    try:
        logits: Tensor = model.network(images.to(model.device))
        return logits[0].double()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a user's network may raise anything
        if len(images) == 1:
            raise _NoiseError from error
        reason = " ".join(str(error).split())[:300]
        raise BcdzooError(
            f"the network {model.name} processes one image but fails on {len(images)}: {reason}; use --batch-size 1"
        ) from error


def _trains(module: nn.Module) -> bool:
    """Whether a module is in training mode, and of a kind that computes, or may compute, something else there."""
    torchs = type(module).__module__.startswith("torch.")
    may = isinstance(module, _NormBase | _DropoutNd | nn.RReLU) if torchs else not any(True for _ in module.children())
    return module.training and may


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((one - other).abs().max() > tolerance)  # False for NaN: non-finite logits are an error later
