"""Verdicts on layers, by the numbers they multiply, and on the network, by its layers."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bcdzoo.bits import Bits
from bcdzoo.layers.metadata import declared_bits
from bcdzoo.observe.bits import bits_of
from bcdzoo.observe.observed_layer import ObservedLayer
from bcdzoo.observe.values import Form, Inputs, Threshold, Weights, summarize_weights
from bcdzoo.text import printable

_MOST = 0.5  # share of binary values or output channels from which a layer is meant to be binary
_LOOP = 8  # calls per image from which a layer is considered to be moved over a map in a loop
_IMAGES, _VALUES = 8, 256  # per channel; fewer may be constant by chance
_LOW = 4  # bits up to which an activation counts as quantized; images have 8


@dataclass(frozen=True)
class AuditedLayer:
    """The findings about a layer.

    Attributes:
        name: Path of its module in the network.
        type: Name of the module's class.
        operation: Kernel and stride, or the kind of operation.
        macs: Multiply-accumulates for one image.
        w_bits: Bits of a weight, 32 for real values.
        a_bits: Bits of an input; None if they were not examined.
        bases: Number of such products that the layer sums.
        weights: Summary of the weights.
        stored: Form in which the weights are stored: ``±1`` or ``±α``, ``latent`` (real-valued, binarized for use),
            ``real``, ``bits``, or ``computed`` if no stored tensor matches.
        latent: Name of the stored tensor.
        inputs: Summary of the inputs; None if they were not examined.
        threshold: Values before their sign or rounding; None if there was none.
        padding: Padding: ``0``, or a value and ``outside`` if it was added before the layer.
        role: Purpose of a real-valued layer; empty for a low-bit one.
        troubles: Reasons why a layer that is meant to be binary is not.
        notes: Other findings.
        constant: Single value of all inputs of some of its calls; None if there is no such call.
    """

    name: str
    type: str
    operation: str
    macs: int
    w_bits: int
    a_bits: int | None
    bases: int
    weights: Weights
    stored: str
    latent: str
    inputs: Inputs | None
    threshold: Threshold | None
    padding: str
    role: str
    troubles: tuple[str, ...]
    notes: tuple[str, ...]
    constant: float | None = None

    @property
    def kind(self) -> str:
        """Kind of the layer, ignoring troubles."""
        return _kind(self.w_bits, self.a_bits)

    @property
    def verdict(self) -> str:
        """Verdict in words."""
        if self.troubles:
            return "NOT binary: " + "; ".join(self.troubles)
        return f"{self.kind} ({self.role})" if self.role else self.kind


def judge(layers: Sequence[ObservedLayer], images: int, real_input: bool) -> list[AuditedLayer]:
    """Judge the layers of a network.

    Args:
        layers: Observed layers in the order of their calls.
        images: Number of images that were run.
        real_input: Whether the images were real, so that the activations are meaningful.
    """
    bits = [bits_of(observed, real_input) for observed in layers]
    troubles = [
        (*(_input_troubles(observed) if real_input and not observed.of_image else ()), *_weight_troubles(observed))
        for observed in layers
    ]
    low = [w < 32 or (a is not None and a <= _LOW) or bool(t) for (w, a), t in zip(bits, troubles, strict=True)]
    judged = []
    for place, (observed, (w_bits, a_bits)) in enumerate(zip(layers, bits, strict=True)):
        assert observed.weights is not None
        stored, latent = _stored(observed)
        judged.append(
            AuditedLayer(
                name=observed.name,
                type=type(observed.module).__name__,
                operation=_operation(observed),
                macs=observed.macs // images,
                w_bits=w_bits,
                a_bits=a_bits,
                bases=observed.bases or math.prod((declared_bits(observed.module) or Bits())[2:]),
                weights=observed.weights,
                stored=stored,
                latent=latent,
                inputs=observed.inputs if real_input else None,
                threshold=observed.threshold if real_input and a_bits != 32 else None,
                padding=_padding(observed),
                role="" if low[place] else _role(observed, place, low, layers, images),
                troubles=troubles[place],
                notes=_notes(observed, w_bits, a_bits, images, real_input),
                constant=next((value for value in observed.constants if value is not None), None)
                if real_input
                else None,
            )
        )
    return judged


def _kind(w_bits: int, a_bits: int | None) -> str:
    if a_bits is None:
        return {1: "binary weights", 32: "real weights"}.get(w_bits, f"{w_bits}-bit weights")
    match w_bits, a_bits:
        case 1, 1:
            return "binary"
        case 32, a if a > _LOW:
            return "real-valued"
        case 1, 32:
            return "binary weights, real activations"
        case 32, 1:
            return "binary activations, real weights"
        case w, 32:
            return f"{w}-bit weights, real activations"
        case 32, a:
            return f"{a}-bit activations, real weights"
    return f"low-bit (w{w_bits}a{a_bits})"


def _input_troubles(observed: ObservedLayer) -> Iterator[str]:
    """Yield reasons why inputs that are meant to be binary are not."""
    inputs, threshold = observed.inputs, observed.threshold
    if inputs is None:
        return
    if inputs.form in (Form.SHIFTED, Form.SHIFTED_OF_CHANNEL):
        values = "{:.4g} and {:.4g}".format(*inputs.levels) if len(inputs.levels) == 2 else "two per channel or batch"
        yield f"the inputs are {values}, not ±α: a bias after the sign"
    elif inputs.form == Form.SIGNS_OF_CHANNEL:
        yield "the inputs are ±α with an α per channel: a scale that cannot be applied after counting bits"
    elif _has_sign_of_zero(inputs, threshold):
        yield f"{_percent(inputs.zeros, inputs.count)} of the inputs are 0"
    elif (
        inputs.form == Form.REAL
        and inputs.off < _MOST * inputs.count
        and observed.weights
        and observed.weights.bits < 32
    ):
        zeros = f" ({_percent(inputs.zeros, inputs.count)} are 0)" if inputs.zeros else ""
        yield f"{_percent(inputs.off, inputs.count)} of the inputs are not ±α{zeros}"


def _has_sign_of_zero(inputs: Inputs, threshold: Threshold | None) -> bool:
    """Whether there are zeros besides ±α, or besides +α if they come from torch.sign after a ReLU."""
    if not inputs.zeros or inputs.form == Form.REAL:
        return False
    if inputs.form == Form.LEVELS:
        return len(inputs.levels) == 3 and min(inputs.levels) == -max(inputs.levels)
    return threshold is not None and threshold.by == "sign" and threshold.zeros == inputs.zeros


def _weight_troubles(observed: ObservedLayer) -> Iterator[str]:
    weights = observed.weights
    assert weights is not None
    if weights.channels > weights.binary >= _MOST * weights.channels:
        odd = weights.channels - weights.binary
        yield f"the weights of {odd} of {weights.channels} output channels are not ±α"
    elif not weights.is_real and weights.levels == 3 and weights.zeros:
        yield f"{_percent(weights.zeros, weights.numbers)} of the weights are 0"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.1 else f"{part} of {whole}"


def _stored(observed: ObservedLayer) -> tuple[str, str]:
    """Return how a layer's weights are stored, and the name of the tensor."""
    assert observed.weights is not None
    named = [*observed.module.named_parameters(), *observed.module.named_buffers()]
    latent = [(name, tensor) for name, tensor in named if name == "weight"]
    if latent and declared_bits(observed.module) is not None:  # with several bases it uses more numbers than are stored
        named = latent
    else:
        named = [(name, tensor) for name, tensor in named if tensor.numel() == observed.weights.numbers]
    if not named:
        return "computed", ""
    assert observed.first is not None
    signs = (observed.first > 0).flatten()
    if len(named) > 1:
        named = [max(named, key=lambda pair: int(((pair[1] > 0).flatten() == signs).sum()))]
    name, tensor = named[0]
    path = f"{observed.name}.{name}".lstrip(".")
    if observed.weights.is_real:
        return "real", path
    rows = summarize_weights(tensor.detach().flatten(1)) if tensor.ndim > 1 and tensor.is_floating_point() else None
    if rows is None or rows.is_real or rows.binary < rows.channels:
        return "latent", path
    return "±α" if rows.has_scale else "±1", path


def _operation(observed: ObservedLayer) -> str:
    if not observed.kernel:
        return observed.kind
    kernel = "×".join(map(str, observed.kernel))
    return kernel if max(observed.stride) == 1 else f"{kernel} /{max(observed.stride)}"


def _padding(observed: ObservedLayer) -> str:
    inside = "0" if any(observed.padding) else ""
    if observed.inputs is None or observed.inputs.border is None:
        return inside
    top, bottom, left, right = observed.inputs.sides or (0, 0, 0, 0)
    uneven = f" {top},{bottom},{left},{right}" if len({top, bottom, left, right}) > 1 else ""
    return ", ".join(filter(None, [f"{observed.inputs.border:.3g} outside{uneven}", inside]))


def _role(
    observed: ObservedLayer, place: int, low: Sequence[bool], layers: Sequence[ObservedLayer], images: int
) -> str:
    """Return the purpose of a real-valued layer; ``inside`` if there is no excuse for it."""
    if not any(low):
        return ""
    if not any(low[:place]):
        return "stem" if all(_is_of_stem(other) for other in layers[1 : place + 1]) else "early stage"
    assert observed.weights is not None
    if observed.weights.levels == 1:
        return "equal weights"
    if observed.is_blur:
        return "one filter"
    on_map = observed.positions > 1 or observed.calls > _LOOP * images
    if not any(low[place:]) and not on_map:
        return "classifier"
    has_maps = any(is_low and other.positions > 1 for is_low, other in zip(low, layers, strict=True))
    if has_maps and observed.kind != "product" and not on_map and math.prod(observed.kernel) == 1:
        return "of pooled features"
    if observed.kernel == (1, 1) and observed.c_in != observed.weights.channels and _map_shrinks(place, low, layers):
        return "1×1 downsampling"
    if observed.kernel == (1, 1) and observed.weights.channels > max(other.c_in for other in layers[: place + 1]):
        return "1×1 widening"
    return "inside"


def _is_of_stem(observed: ObservedLayer) -> bool:
    """Whether a layer behind the first widens the channels, makes the map smaller or has groups.

    One that does not is a real-valued stage of the network, and so is what follows it.
    """
    assert observed.weights is not None
    channels, numbers = observed.weights.channels, observed.weights.numbers
    has_groups = numbers < channels * observed.c_in * math.prod(observed.kernel)
    return channels > observed.c_in or max(observed.stride, default=1) > 1 or has_groups


def _map_shrinks(place: int, low: Sequence[bool], layers: Sequence[ObservedLayer]) -> bool:
    """Whether the map shrinks at a layer: by its stride, or compared with the adjacent low-bit layers."""
    observed = layers[place]
    maps = [(at, other) for at, other in enumerate(layers) if low[at] and other.kernel]
    before = [other.positions for at, other in maps if at < place][-1:]
    after = [other.positions // math.prod(other.stride) for at, other in maps if at > place][:1]
    return (
        max(observed.stride) > 1
        or observed.positions < max(before, default=0)
        or observed.positions > min(after, default=math.inf)
    )


def _notes(observed: ObservedLayer, w_bits: int, a_bits: int | None, images: int, real_input: bool) -> tuple[str, ...]:
    notes = []
    if (calls := observed.calls // images) > 1 and declared_bits(
        observed.module
    ) is None:  # those may have several bases
        notes.append(f"called {calls} times")
    constant = [value for value in observed.constants if value is not None]
    if real_input and constant:
        calls_of = f" of {len(constant)} of {len(observed.constants)} calls" if len(observed.constants) > 1 else ""
        notes.append(f"the input{calls_of} is constant, {', '.join(f'{value:+.4g}' for value in set(constant))}")
    if real_input and a_bits is not None and a_bits <= _LOW and (count := _constant_channels(observed, images)):
        are = "are" if count > 1 else "is"
        notes.append(f"{count} of {observed.c_in} input channels {are} constant on these images")
    if observed.has_bias and w_bits < 32:
        notes.append("bias after the sum")
    if real_input and observed.inputs is not None and observed.inputs.inexact:
        notes.append(f"inputs exact up to {observed.inputs.inexact:.0e}")
    return tuple(notes)


def _constant_channels(observed: ObservedLayer, images: int) -> int:
    """Count constant input channels; 0 if that may be chance, or if the whole input is constant."""
    assert observed.inputs is not None
    enough = images >= _IMAGES and observed.inputs.count >= _VALUES * observed.c_in
    return observed.constant_channels if enough and observed.inputs.form != Form.CONSTANT else 0


def summarize(layers: Sequence[AuditedLayer], unknown: Sequence[str] = ()) -> str:
    """Return the verdict on a network in words.

    Args:
        layers: Results of :func:`judge`.
        unknown: Operations that may multiply and were not recognized.
    """
    rest = "".join(f"; {words}" for words in (*_real_parts(layers), *_dead(layers)))
    head = _head(layers)
    if not unknown:
        return head + rest
    names = "; ".join(unknown[:3]) + "; …" * (len(unknown) > 3)
    if head.startswith("not binary: "):
        return f"{head}; not recognized: {names}{rest}"
    number = f"{len(unknown)} operation{'s' * (len(unknown) > 1)}"
    return f"not known: {number} not recognized ({names}); apart from that {head}{rest}"


def failure(layers: Sequence[AuditedLayer], claimed: Sequence[Bits], unknown: Sequence[str] = ()) -> str | None:
    """Why a network is not what it claims, in a line; None where it is.

    Args:
        layers: Of :func:`judge`.
        claimed: Bits of its low-bit layers; of a real-valued network 32/32.
        unknown: Operations that may multiply and were not recognised.
    """
    wanted = {_kind(*bits[:2]) for bits in claimed}
    low = [layer for layer in layers if not layer.role and (layer.troubles or layer.kind not in _REAL)]
    found = dict.fromkeys(layer.kind for layer in low)
    if unknown:
        return f"not known: {unknown[0]} was not recognised"
    if broken := [layer for layer in layers if layer.troubles or layer.role == "inside"]:
        return f"{_name(broken[0])} is {broken[0].verdict}" + f", and {len(broken) - 1} more" * (len(broken) > 1)
    if wanted == {"real-valued"} and not low:
        return None
    if any(layer.a_bits is None for layer in low):
        return "the activations are not known: give images with --data"
    if not low or any(kind not in wanted for kind in found):
        return f"it claims to be {' and '.join(sorted(wanted))}, and is {', '.join(found) or 'real-valued'}"
    return None


def _share(some: Sequence[AuditedLayer], layers: Sequence[AuditedLayer]) -> str:
    whole = sum(layer.macs for layer in layers) or 1
    return f"{100 * sum(layer.macs for layer in some) / whole:.1f} %"


def _head(layers: Sequence[AuditedLayer]) -> str:
    inside = [layer for layer in layers if layer.role == "inside"]
    low = [layer for layer in layers if not layer.role and (layer.troubles or layer.kind not in _REAL)]
    broken = [layer for layer in low if layer.troubles]
    if not low:
        return "not binary: every layer is real-valued" if layers else "nothing is multiplied"
    faults = []
    if broken:
        first = f"{_name(broken[0])}: {'; '.join(broken[0].troubles)}"
        faults.append(f"{len(broken)} of {len(low)} layers that are meant to be are not ({first})")
    if inside:
        names = _names(inside)
        share = _share(inside, layers)
        faults.append(f"real-valued layers between the others: {names}, {share} of the multiply-accumulates")
    kinds = Counter(layer.kind for layer in low if not layer.troubles)
    if faults:
        return "not binary: " + "; ".join(faults)
    if len(kinds) == 1:
        number = f"{len(low)} layer{'s' * (len(low) != 1)}"
        return f"{next(iter(kinds))}: {number}, {_share(low, layers)} of the multiply-accumulates"
    return "mixed: " + ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def _real_parts(layers: Sequence[AuditedLayer]) -> Iterator[str]:
    roles = dict.fromkeys(layer.role for layer in layers if layer.role not in ("", "inside"))
    rest = [f"{role} {_share([layer for layer in layers if layer.role == role], layers)}" for role in roles]
    if rest:
        yield f"real-valued: {', '.join(rest)}"


def _dead(layers: Sequence[AuditedLayer]) -> Iterator[str]:
    dead = [layer for layer in layers if layer.constant is not None]
    if dead:
        yield f"constant input, which has no information: {_names(dead)}"


def _names(layers: Sequence[AuditedLayer]) -> str:
    names = list(dict.fromkeys(map(_name, layers)))
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


def _name(layer: AuditedLayer) -> str:
    return printable(layer.name or "the network", 100)


_REAL = ("real-valued", "real weights")
