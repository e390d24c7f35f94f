"""Whether a network's answer to an image depends on the other images of its batch, or on chance."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from bcdzoo.data.names import some
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.mode import STRICT
from bcdzoo.evaluation.model import EvalModel

_SAME_SHAPE = 1e-3  # of the logits' spread: the same arithmetic, whose results are equal but for a GPU's
_OTHER_SHAPE = 0.2  # another arithmetic: where rounding turns a sign, a binary network's logits move visibly


def batch_notes(model: EvalModel, batch_size: int) -> list[str]:
    """What a reader should know: an accuracy that is not the network's alone.

    Modules are asked whether they are in evaluation mode, and images of noise are run: one twice alone, then beside
    two others in turn, where a batch has room for them.

    Args:
        model: In evaluation mode; it is run strictly.
        batch_size: Images per step.

    Raises:
        BcdzooError: The network cannot take two images at once.
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
        return []  # the evaluation goes on with fewer at once, or says that it cannot
    except _NoiseError:
        return []  # it takes no noise, and tells of real images what it cannot do
    spread = float(torch.stack([alone, again, beside, beside_third]).std(dim=1).max()) if len(alone) > 1 else 1.0
    notes = []
    if _differ(alone, again, _SAME_SHAPE * spread):
        notes.append(
            f"{model.name}: two passes of one image give different logits, as with dropout that stays active: the "
            "accuracy is one of many"
        )
    elif _differ(beside, beside_third, _SAME_SHAPE * spread) or _differ(alone, beside, _OTHER_SHAPE * spread):
        notes.append(
            f"{model.name}: the logits of an image depend on the others of its batch: so does the accuracy, on "
            "their order and the batch size"
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
    except Exception as error:  # anybody's network fails as it likes
        if len(images) == 1:
            raise _NoiseError from error
        reason = " ".join(str(error).split())[:300]
        raise BcdzooError(
            f"the network {model.name} takes one image and fails on {len(images)}: {reason}; --batch-size 1 gives it "
            "one at a time"
        ) from error


def _trains(module: nn.Module) -> bool:
    """Whether a module is in training mode, and of a kind that computes something else there, or may do so."""
    torchs = type(module).__module__.startswith("torch.")
    may = isinstance(module, _NormBase | _DropoutNd | nn.RReLU) if torchs else not any(True for _ in module.children())
    return module.training and may


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((one - other).abs().max() > tolerance)  # not of NaN: logits that are not finite are an error later
