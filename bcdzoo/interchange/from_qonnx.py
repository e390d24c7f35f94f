"""A QONNX file as a network: its nodes become modules that count, are observed and pack as any other.

Only what such files hold is known (docs/interchange.md); anything else is refused by the name of its node.
"""

import math
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.interchange.onnx_file import Node, OnnxFile, read_onnx
from bcdzoo.interchange.qonnx_constants import FOLDED, FOLDED_QUANTIZERS
from bcdzoo.interchange.qonnx_elements import ELEMENTS, QUANTIZING
from bcdzoo.interchange.qonnx_maps import MAPS
from bcdzoo.interchange.qonnx_values import Given, Refused, Stored, Value
from bcdzoo.layers.grey import FirstChannel
from bcdzoo.layers.qonnx import (
    Affine,
    Dequantized,
    DequantizedToEven,
    LevelsConv2d,
    Pad,
    PRelu,
    QonnxNetwork,
    ScaleShift,
    Step,
    Uniform,
)
from bcdzoo.text import printable, say

DOMAINS = {"onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general"}
"""Domains of QONNX's operators, as they were called over the years."""

_LARGEST_MAP = 1 << 26  # numbers of a value
_NODES = {**ELEMENTS, **MAPS}
_LEFT_OUT = ("TopK", "ArgMax", "Softmax", "LogSoftmax")


def network_of(path: Path) -> tuple[QonnxNetwork, OnnxFile]:
    """Build the network of a file, in evaluation mode.

    Raises:
        BcdzooError: As for :func:`bcdzoo.interchange.importing.load_qonnx`.
    """
    file = read_onnx(path)
    try:
        network = Builder(file, path).network()
    except Refused as reason:
        raise BcdzooError(f"{path}: {reason}") from None
    return network.eval(), file


class Builder:
    """Makes steps of nodes, one by one."""

    def __init__(self, file: OnnxFile, path: Path) -> None:
        self.file, self.path = file, path
        self.steps: list[Step] = []
        self.known: dict[str, Value | Stored] = {name: Stored(array) for name, array in file.constants.items()}
        self.room = 32 * file.size + (1 << 16)  # bytes that constants may grow to: bits are unfolded to float32
        self.made: dict[tuple[int, str], Value] = {}  # signs of values, for all who want them
        self.places: dict[int, tuple[Value, Tensor]] = {}  # where the numbers of a cut or concatenation come from
        self.label = ""
        self.batch, self.side = 1, 0

    def network(self) -> QonnxNetwork:
        """The network of the whole file."""
        self._start()
        nodes, wanted = self._without_end()
        if not any(node.kind in ("Quant", "BipolarQuant", "IntQuant", "MultiThreshold") for node in nodes):
            raise Refused(
                "it is a float network, for nothing in it is quantized (Quant, BipolarQuant): only QONNX is read"
            )
        for node in nodes:
            self.label = node.label
            try:
                self._read(node)
            except Refused as reason:
                raise Refused(f"{node.label}: {reason}") from None
            except Exception as error:  # whatever torch or numpy say to a node that makes no sense
                said = printable(" ".join(str(error).split()), 300)
                raise Refused(f"{node.label} does not fit: {said or type(error).__name__}") from error
        logits = self.known.get(wanted)
        if not isinstance(logits, Value):
            raise Refused("its output does not depend on the image")
        self._finish(logits)
        return QonnxNetwork(_numbered(_merged(_needed(self.steps))), self.side)

    def _start(self) -> None:
        shape = self.file.shape
        if len(shape) != 4 or shape[1] not in (1, 3) or shape[2] != shape[3] or not shape[2]:
            shown = "×".join(str(size or "?") for size in shape)
            raise Refused(
                f"its input is of {shown or 'no stated shape'}: only square images, (N, 1 or 3, side, side), are read"
            )
        self.batch, self.side = shape[0] or 1, shape[2]
        shape = (self.batch, *shape[1:])
        if math.prod(shape[1:]) > _LARGEST_MAP:
            raise Refused(f"its images have {math.prod(shape[1:])} numbers, more than {_LARGEST_MAP}")
        image = Value(0, shape, torch.empty(1, 3, *shape[2:], device="meta"))
        self.known[self.file.image] = self.run(FirstChannel(), image, shape=shape) if shape[1] == 1 else image

    def _without_end(self) -> tuple[list[Node], str]:
        """The nodes without what only ranks the logits, and the name of these."""
        makers = {name: node for node in self.file.nodes for name in node.outputs if name}
        if not self.file.outputs or any(name not in makers for name in self.file.outputs):
            raise Refused("its output is not what a node gives")
        name = self.file.outputs[0]
        end = makers[name]
        if any(makers[other] is not end for other in self.file.outputs):
            raise Refused(f"it has {len(self.file.outputs)} outputs: only networks of one, the logits, are read")
        left: list[Node] = []
        while end.kind in _LEFT_OUT and not end.domain and end.inputs:
            left.append(end)
            name = end.inputs[0]
            if name not in makers:
                break
            end = makers[name]
        if left:
            shown = ", ".join(node.label for node in left)
            say(f"{self.path}: left out at its end, because logits are what is wanted: {shown}")
        return [node for node in self.file.nodes if node not in left], name

    def _read(self, node: Node) -> None:
        inputs = [self._known(name) if name else None for name in node.inputs]
        given = Given(node, inputs)
        if node.domain and node.domain not in DOMAINS:
            raise Refused(f"operators of {printable(node.domain, 60)} are not read")
        folds, table = (FOLDED_QUANTIZERS, QUANTIZING) if node.domain else (FOLDED, _NODES)
        found: Value | Stored
        if node.kind in folds and (node.kind == "Shape" or not any(isinstance(each, Value) for each in inputs)):
            found = folds[node.kind](self, given)
        elif node.kind in table:
            found = table[node.kind](self, given)
        else:
            raise Refused("this operator is not read")
        given.finish()
        self._name(node, found)

    def _name(self, node: Node, found: "Value | Stored") -> None:
        outputs = [name for name in node.outputs if name]
        if not outputs or outputs[0] in self.known:
            raise Refused("its output has no name, or one that is taken")
        self.known[outputs[0]] = found

    def _known(self, name: str) -> "Value | Stored":
        if name not in self.known:
            raise Refused(f"its input {printable(name, 100)} is there later, in a circle, or not at all")
        return self.known[name]

    def _finish(self, logits: Value) -> None:
        plain = self.plain(logits)
        if len(plain.meta.shape) != 4 or plain.meta.shape[2:] != (1, 1):
            raise Refused(f"its output is of {'×'.join(map(str, plain.shape))}: not a vector of logits")
        if self.file.preprocess and parse(self.file.preprocess).crop != self.side:
            made = parse(self.file.preprocess).crop
            raise Refused(f"its preprocessing gives images of {made}×{made}, and it takes {self.side}×{self.side}")
        if self.file.class_names and len(self.file.class_names) != plain.meta.shape[1]:
            raise Refused(f"it has {plain.meta.shape[1]} logits, and {len(self.file.class_names)} class names")
        self.label = "logits"
        self.run(nn.Flatten(), plain)

    def run(self, module: nn.Module, *inputs: Value, shape: tuple[int, ...] | None = None) -> Value:
        """Add a module, and return what it gives.

        Args:
            module: The module.
            inputs: What it is given, as it is: scales and quantizers are not applied.
            shape: Shape that the file has for it; that of a map if omitted, or of a vector where all inputs are.
        """
        held = {name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())}
        with torch.no_grad():
            meta = torch.func.functional_call(module.eval(), held, tuple(value.meta for value in inputs))
        if isinstance(meta, Tensor) and meta.numel() > _LARGEST_MAP:
            raise Refused(f"it gives {meta.numel()} numbers an image, more than {_LARGEST_MAP}")
        self.steps.append(Step(self.label.partition(" ")[0], module, tuple(value.number for value in inputs)))
        if shape is None:
            whole = (self.batch, *meta.shape[1:]) if isinstance(meta, Tensor) else inputs[0].shape
            shape = whole[:2] if all(len(value.shape) == 2 for value in inputs) else whole
        return Value(len(self.steps), shape, meta)

    def once(self, what: str, value: Value, module: Callable[[], nn.Module]) -> Value:
        """The same of a module without parameters that several may ask for."""
        key = value.number, what
        if key not in self.made:
            self.made[key] = self.run(module(), value)
        return self.made[key]

    def plain(self, value: Value) -> Value:
        """A value as the numbers that it stands for."""
        value = self.around(value)
        found = value
        if value.quantizer is not None:
            lowered = hasattr(value.quantizer, "lower")
            module = (DequantizedToEven if lowered else Dequantized)(deepcopy(value.quantizer))
            found = self.once(f"numbers {id(value.quantizer)}", value, lambda: module)
        elif value.scale != 1:
            found = self.once(f"scaled {value.scale}", value, lambda: Affine("Mul", torch.tensor([value.scale])))
        if found is value:
            return replace(value, is_signs=False)
        return replace(found, shape=value.shape, is_sum=value.is_sum)

    def around(self, value: Value) -> Value:
        """A value with its padding."""
        pads, padding, q = value.pads, value.pad_value, value.quantizer
        if not any(pads):
            return value
        inner = replace(value, pads=(0, 0, 0, 0))
        if q is not None:
            level = padding + q.minus
            if not isinstance(q, Uniform) or not (level.is_integer() and q.low <= level <= q.high):
                return self.run(Pad(pads, padding * q.scale), self.plain(inner), shape=value.shape)
            return replace(self.run(Pad(pads, padding * q.scale), inner, shape=value.shape), quantizer=q)
        if abs(padding) != 1:
            return self.run(Pad(pads, padding * value.scale), self.plain(inner), shape=value.shape)
        return replace(self.run(Pad(pads, padding), inner, shape=value.shape), is_signs=True, scale=value.scale)

    def grow(self, size: int, itemsize: int = 4) -> None:
        """Take room for a constant that is computed: it may not be much larger than the file."""
        self.room -= size * itemsize
        if self.room < 0:
            raise Refused("its constants are much larger than the file")


def _needed(steps: list[Step]) -> dict[int, Step]:
    """Steps that what the last one gives depends on, by their numbers."""
    needed = {len(steps)}
    for number in range(len(steps), 0, -1):
        if number in needed:
            needed |= set(steps[number - 1].inputs)
    return {number: steps[number - 1] for number in sorted(needed - {0})}


def _merged(steps: dict[int, Step]) -> list[Step]:
    """Steps with those in one that a layer of this zoo has in one, and so is counted and packed."""
    uses = Counter(value for step in steps.values() for value in step.inputs)
    alone = {value: number for number, step in steps.items() for value in step.inputs if uses[value] == 1 and value}
    place = {0: 0} | {number: number for number in steps}  # the step that gives the value now

    def take(first: int, second: int, module: nn.Module) -> None:
        """Put a module in the place of two steps."""
        steps[first] = steps[first]._replace(module=module)
        place[second], alone[first] = first, alone.get(second, 0)
        del steps[second]

    for rule in (_sums_around, _scale_of_sums, _product_and_sum):
        for number in list(steps):
            while number in steps and (following := alone.get(number)) in steps:
                assert following is not None
                third = steps.get(alone.get(following, 0))
                found = rule(steps[number].module, steps[following].module, third.module if third else None)
                if found is None:
                    break
                if rule is _sums_around:
                    take(following, alone[following], found)
                take(number, following, found)
    order = {0: 0} | {number: i for i, number in enumerate(steps, 1)}

    def value(number: int) -> int:
        while place[number] != number:
            number = place[number]
        return order[number]

    return [step._replace(inputs=tuple(map(value, step.inputs))) for step in steps.values()]


def _is(module: nn.Module | None, kind: str) -> bool:
    return isinstance(module, Affine) and module.kind == kind


def _sums_around(first: nn.Module, second: nn.Module, third: nn.Module | None) -> nn.Module | None:
    """A PReLU between two offsets: ReActNet's."""
    if not (isinstance(second, PRelu) and _is(first, "Add") and _is(third, "Add")) or second.shift_in is not None:
        return None
    assert isinstance(first, Affine) and isinstance(third, Affine)
    return second.between(first.numbers, third.numbers)


def _scale_of_sums(first: nn.Module, second: nn.Module, third: nn.Module | None) -> nn.Module | None:
    """A convolution of few bits and what alone its sums are scaled with."""
    if not isinstance(first, LevelsConv2d) or not isinstance(second, Affine) or second.kind != "Mul":
        return None
    return first.scaled(second.numbers) if bool((first.scale == 1).all()) else None


def _product_and_sum(first: nn.Module, second: nn.Module, third: nn.Module | None) -> nn.Module | None:
    """A normalization that is written as a product and a sum."""
    if not isinstance(first, Affine) or first.kind != "Mul" or not isinstance(second, Affine) or second.kind != "Add":
        return None
    return ScaleShift(first.numbers, second.numbers)


def _numbered(steps: list[Step]) -> list[Step]:
    """Steps with names of their own."""
    return [step._replace(name=f"{number:03d}_{step.name}") for number, step in enumerate(steps, 1)]
