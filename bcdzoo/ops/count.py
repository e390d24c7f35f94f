"""Count operations, layer by layer (docs/counting.md).

Layers of this zoo state their operations themselves (:class:`bcdzoo.layers.metadata.Counted`); every other tensor
operation is looked up by its ATen name, so that any network can be counted. Everything else is reported as
unsupported. A network of the zoo runs once on torch's meta device, without weights or arithmetic. Any other
network runs on the CPU, where it may read values, and bits that its layers do not state are observed
(:mod:`bcdzoo.ops.observed`).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bcdzoo.custom_model import import_network, is_onnx_file, unwrapped
from bcdzoo.errors import BcdzooError
from bcdzoo.interchange.importing import build_network
from bcdzoo.layers.metadata import Counted, OpCounts
from bcdzoo.layers.qonnx import QonnxNetwork
from bcdzoo.ops.conventions import BINARY, Convention, find_convention
from bcdzoo.registry import create_model, find, zoo_name
from bcdzoo.text import html_table, printable
from bcdzoo.trace.known import FREE, NORMS, packets
from bcdzoo.trace.products import Multiplication
from bcdzoo.trace.running import MAKES, Running
from bcdzoo.weights.metadata import carried_preprocess

aten = torch.ops.aten


@dataclass
class LayerOps:
    """Operations of one module for one image.

    Attributes:
        name: Path of the module in the network.
        type: Name of the module's class.
        w_bits: Bits of its weights; None if it has no multiplications.
        a_bits: Bits of its activations, likewise.
        output_shape: Shape of its output for one image, without the batch.
        bops: Binary operations.
        flops: Real-valued operations under the report's convention.
        params: Number of its parameters; shared ones belong to the first module.
        counts: Operations by kind (:data:`bcdzoo.ops.conventions.KINDS`).
        observed: Whether its bits were observed, because it does not state them.
    """

    name: str
    type: str
    w_bits: int | None
    a_bits: int | None
    output_shape: tuple[int, ...]
    bops: int
    flops: int
    params: int
    counts: OpCounts
    observed: bool = False


@dataclass
class OpsReport:
    """Operations of a network for one image.

    Attributes:
        model: Name of the network.
        rules: Counting convention.
        input_size: Height and width of the image in pixels.
        layers: Record of each module that computes something or has parameters.
        unsupported: Tensor operations that the counter does not know, and where they occur; they are in no total.
        observed: Images on which bits were observed; empty if all layers state theirs.
        warnings: Caveats about these numbers.
    """

    model: str
    rules: Convention
    input_size: int
    layers: list[LayerOps] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    observed: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def convention(self) -> str:
        """Name of the counting convention."""
        return self.rules.name

    @property
    def counts(self) -> OpCounts:
        """Operations of all layers by kind (:data:`bcdzoo.ops.conventions.KINDS`)."""
        counts: Counter[str] = Counter()
        for layer in self.layers:
            counts.update(layer.counts)
        return dict(counts)

    @property
    def bops(self) -> int:
        """Binary operations."""
        return self.rules.totals(self.counts)["bops"]

    @property
    def flops(self) -> int:
        """Real-valued operations, rounded to an integer where the convention has costs that are none."""
        return self.rules.totals(self.counts)["flops"]

    @property
    def ops(self) -> int:
        """FLOPs + BOPs / 64, or what the convention has for 64, rounded to an integer."""
        return self.rules.totals(self.counts)["ops"]

    @property
    def params(self) -> int:
        """Number of parameters."""
        return sum(layer.params for layer in self.layers)

    def under(self, rules: Convention) -> "OpsReport":
        """Return the same network under another convention; it is not counted again."""
        layers = [replace(layer, flops=rules.flops(layer.counts)) for layer in self.layers]
        return replace(self, rules=rules, layers=layers)

    def __repr__(self) -> str:
        return f"OpsReport({', '.join(f'{name} {value}' for name, value in self._lines())})"

    def _repr_html_(self) -> str:
        return html_table(self._lines())

    def shorts(self, places: int | None = None) -> list[tuple[str, str]]:
        """What its totals are called under its convention, and each in the unit of tables."""
        totals, units = self.rules.totals(self.counts), self.rules.units
        digits = {what: places if places is not None else 3 if what == "bops" else 4 for what in totals}
        return [
            (name, f"{totals[what] / 10 ** units[what]:.{digits[what]}f}e{units[what]}")
            for what, name in self.rules.called.items()
        ]

    def _lines(self) -> list[tuple[str, str]]:
        known = [("warnings", self.warnings), ("not counted", self.unsupported)]
        return [
            ("model", printable(self.model, 100)),
            ("image", f"3×{self.input_size}×{self.input_size}"),
            ("convention", self.convention),
            *self.shorts(),
            ("parameters", f"{self.params / 1e6:.2f}e6"),
            ("layers", str(len(self.layers))),
            *((name, str(len(entries))) for name, entries in known if entries),
        ]


def count_ops(
    model: str | nn.Module,
    convention: str | Path | Convention = "full",
    input_size: int | None = None,
    *,
    data: str | None = None,
    preprocess: str | None = None,
    **arguments: Any,
) -> OpsReport:
    """Count the operations of a network for one image of 3 channels.

    Args:
        model: Zoo name, ``package.module:callable``, QONNX file, or a module that takes (N, 3, H, W), which is not
            changed, except that lazy parameters get their sizes.
        convention: Counting convention: "full", "dagger", "ace", the path of a TOML file of one's own
            (docs/counting.md), or a :class:`bcdzoo.ops.conventions.Convention`.
        input_size: Height and width of the image in pixels; by default that of the zoo's network or of the QONNX
            file, the crop of ``preprocess``, or 224 for any other module.
        data: Images in any layout, on which to observe the bits of layers that do not state theirs; by default a random
            image.
        preprocess: Preprocessing of these images, as for :func:`bcdzoo.evaluate`; ImageNet's by default.
        **arguments: Arguments of the network, as in :func:`bcdzoo.create_model`.

    Raises:
        BcdzooError: Unknown name or convention, or the network cannot run at this size.
    """
    if not isinstance(model, nn.Module | str):
        raise BcdzooError(f"a network must be a torch.nn.Module or a name, not {printable(repr(model), 60)}")
    if input_size is not None and (type(input_size) is not int or input_size < 1):
        raise BcdzooError(f"input_size: must be a whole number of pixels, not {printable(repr(input_size), 60)}")
    rules = find_convention(convention)
    is_named = isinstance(model, str) and ":" not in model and not is_onnx_file(model)
    if isinstance(model, str) and is_named:
        name = zoo_name(model)
        with torch.device("meta"):
            model = create_model(name, **arguments)
        input_size = input_size or find(name).input_size
    elif isinstance(model, str) and is_onnx_file(model):
        name, (model, _) = model, build_network(model, **arguments)
    elif isinstance(model, str):
        name, model = model, unwrapped(import_network(model, **arguments))
    else:
        model = unwrapped(model)
        name = type(model).__name__
    if not is_named:
        from bcdzoo.packed.pack import unpacked  # not needed for the zoo's networks

        model = unpacked(model, "counting", name)
    if isinstance(model, QonnxNetwork):
        input_size = input_size or model.input_size
        preprocess = preprocess or (None if data is None else str(carried_preprocess(model) or model.assumed))
    if data is not None or preprocess is not None:
        from bcdzoo.ops.observed import crop_of

        input_size = crop_of(preprocess, input_size)
    network = Countable(model, input_size or 224, is_named)
    report = OpsReport(name, rules, network.input_size)
    if not network.is_of_zoo and any(counts["mac"] for counts in network.trace.undeclared()):
        from bcdzoo.ops.observed import observe  # not needed for the zoo's networks, and slow to import

        observe(report, network, data, preprocess)
    _fill(report, network.trace)
    if isinstance(network.model, torch.jit.ScriptModule) and not report.params:
        report.warnings.append("it is frozen TorchScript, whose weights are constants: no parameters are counted")
    return report


def multiply_accumulates(model: nn.Module, input_size: int) -> int:
    """Count the multiply-accumulates of a network for one image, of any bits: as stated, or by torch's formulas.

    Raises:
        BcdzooError: As for :func:`count_ops`.
    """
    trace = Countable(model, input_size).trace
    total = 0
    for path, module in trace.modules.items():
        counts = trace.counts[path]
        bits = getattr(module, "w_bits", 1) * getattr(module, "a_bits", 1) if counts[BINARY] else 1
        total += counts["mac"] + counts[BINARY] // bits  # a second classifier is merged into the first
    return total


def _fill(report: OpsReport, trace: "Trace") -> None:
    report.unsupported = trace.unsupported()
    known: set[Any] = set()
    for path, module in trace.modules.items():
        counts = {kind: number for kind, number in trace.counts[path].items() if number}
        params = sum(p.numel() for p in module.parameters(recurse=isinstance(module, Counted)) if is_new(p, known))
        if not counts and not params:
            continue
        multiplies = BINARY in counts or "mac" in counts
        w_bits, a_bits = trace.bits.get(path) or (getattr(module, "w_bits", 32), getattr(module, "a_bits", 32))
        if "mac" in counts:  # beside binary ones they are not of the layer's own bits
            bits = (32, 32) if BINARY in counts else (w_bits, a_bits)
            counts["mac_bits"] = counts["mac"] * math.prod(bits)
            counts["mac_bits16"] = counts["mac"] * math.prod(16 if one == 32 else one for one in bits)
        report.layers.append(
            LayerOps(
                name=path,
                type=type(module).__name__,
                w_bits=w_bits if multiplies else None,
                a_bits=a_bits if multiplies else None,
                output_shape=trace.shapes.get(path, ()),
                bops=counts.get(BINARY, 0),
                flops=report.rules.flops(counts),
                params=params,
                counts=counts,
                observed=path in trace.bits,
            )
        )


def is_new(x: Tensor, known: set[Any]) -> bool:
    """Whether a tensor is not yet among the known ones, to which it is added; tied tensors are equal."""
    if x.layout != torch.strided:  # sparse tensors have no storage
        return True
    key = x.untyped_storage()._cdata, x.storage_offset(), x.numel(), x.dtype
    if key in known:
        return False
    known.add(key)
    return True


class Countable:
    """A network that was run once to find its operations.

    Attributes:
        model: The network.
        input_size: Height and width of the image in pixels.
        is_of_zoo: Whether its layers state their bits, so that only shapes are computed.
        trace: Operations of the run.
    """

    def __init__(self, model: nn.Module, input_size: int, is_of_zoo: bool = False) -> None:
        self.input_size = input_size
        self.is_of_zoo = is_of_zoo or type(model).__module__.startswith("bcdzoo.models.")
        with torch.random.fork_rng(devices=[]):
            self.model = model
            self._complete()
            first = next((p for p in self.model.parameters() if p.is_floating_point()), torch.empty(0))
            self.device = torch.device("meta") if self.is_of_zoo else first.device
            self.dtype = torch.float32 if self.is_of_zoo else first.dtype
            self.trace = Trace(self.model)
            self.watch(self.trace, self.noise())

    def _complete(self) -> None:
        """Initialize lazy parameters by running the network once."""
        model = self.model
        if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            was_training = model.training
            with torch.no_grad():
                self._try(lambda: model.eval()(torch.zeros(1, 3, self.input_size, self.input_size)), None)
            model.train(was_training)

    def _try(self, run: Callable[[], Any], running: Running | None) -> None:
        try:
            run()
        except Exception as error:  # a user's network may raise anything
            message = " ".join(str(error).split())[:300]
            at = (running.inside[-1] if running else "") or "the network"
            where = " on the meta device" if running and self.device.type == "meta" else ""
            raise BcdzooError(
                f"cannot count at input size {self.input_size}: {at} fails{where}: {message or type(error).__name__}"
            ) from error

    def noise(self) -> Tensor:
        """Return an image of noise, (1, 3, H, W)."""
        shape = 1, 3, self.input_size, self.input_size
        if self.device.type == "meta":
            return torch.zeros(shape, device="meta")
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)

    def watch(self, running: Running, images: Tensor) -> None:
        """Run the network with an observer; the network is not changed.

        Raises:
            BcdzooError: The network fails.
        """
        self._try(lambda: self._run(running, images), running)

    def _run(self, running: Running, images: Tensor) -> None:
        training = {module: module.training for module in self.model.modules() if hasattr(module, "training")}
        scripted = any(isinstance(module, torch.jit.ScriptModule) for module in self.model.modules())
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        copies = {} if scripted else {name: self._copy(tensor) for name, tensor in tensors.items()}

        def call(images: Tensor) -> Any:
            if scripted:  # functional_call does not support it
                return self.model(images)
            return torch.func.functional_call(self.model, copies, images)

        is_meta = self.device.type == "meta"
        try:
            if training:  # frozen TorchScript has no mode
                self.model.eval()
            with torch.no_grad(), torch.device("meta") if is_meta else nullcontext():
                running.run(images, call)
        finally:
            for module, mode in training.items():
                module.training = mode

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to("meta") if self.device.type == "meta" else tensor.detach().clone()


class Trace(Running):
    """One run of a network: operations and output shapes by the path of their module.

    A module that counts itself owns everything inside it.

    Attributes:
        counts: Operations by kind, by path.
        shapes: Shapes of the outputs for one image, by path.
        bits: Observed bits of weights and inputs, by path.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(_owners(model))
        self.counts: dict[str, Counter[str]] = {path: Counter() for path in self.modules}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.bits: dict[str, tuple[int, int]] = {}
        self._unknown: dict[str, list[str]] = {}

    def undeclared(self) -> Iterator[Counter[str]]:
        """Return the counts of modules that do not count themselves."""
        return (self.counts[path] for path, module in self.modules.items() if not isinstance(module, Counted))

    def left(self, path: str, inputs: tuple[Any, ...], output: Any) -> None:
        """Add the counts of a module that counts itself."""
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            self.shapes[path] = tuple(first.shape[1:])
        module = self.modules[path]
        if isinstance(module, Counted):
            self.counts[path].update(module.op_counts(inputs, output))

    def multiplied(self, operation: Multiplication, macs: int, path: str) -> None:
        """Count multiply-accumulates as real ones."""
        if not isinstance(self.modules[path], Counted):
            self.counts[path]["mac"] += macs
            if operation.is_written_out:
                self.counts[path]["gate"] -= min(macs, self.counts[path]["gate"])

    def other(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """Count an operation by its kind."""
        path, packet = self.inside[-1], getattr(func, "_overloadpacket", func)
        if isinstance(self.modules[path], Counted) or packet in FREE or packet in MAKES:
            return
        if packet in HANDLERS:
            kind, number = HANDLERS[packet](args, out)
            self.counts[path][kind] += number
        else:
            self._unknown.setdefault(str(packet), []).append(path or "the network")

    def not_recognised(self, name: str, path: str) -> None:
        """Record an operation that is not recognized."""
        if not isinstance(self.modules[path], Counted):
            self._unknown.setdefault(name, []).append(path or "the network")

    def unsupported(self) -> list[str]:
        """Return one line per unknown operation: how often, and where first."""
        return [f"{name} ×{len(paths)}, first in {printable(paths[0], 100)}" for name, paths in self._unknown.items()]


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """Return every module by its path, except those inside a module that counts itself."""
    owners: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        parts = path.split(".")
        above = (".".join(parts[:i]) for i in range(len(parts)))
        if not any(isinstance(owners.get(parent), Counted) for parent in above if parent != path):
            owners[path] = module
    return owners


Handler = Callable[[tuple[Any, ...], Any], tuple[str, int]]


def _per_output_element(kind: str) -> Handler:
    def handler(args: tuple[Any, ...], out: Any) -> tuple[str, int]:
        return kind, (out[0] if isinstance(out, tuple) else out).numel()

    return handler


def _pooling(args: tuple[Any, ...], out: Any) -> tuple[str, int]:
    if tuple(out.shape[2:]) == (1, 1):
        return "global_pool", args[0].numel()
    return "pool", out.numel()


def _mean(args: tuple[Any, ...], out: Any) -> tuple[str, int]:
    return "global_pool", args[0].numel()


_ACTIVATIONS = """celu clamp clamp_max clamp_min elu gelu glu hardsigmoid hardswish hardtanh leaky_relu log_softmax mish
    _log_softmax _prelu_kernel _safe_softmax relu selu sigmoid silu softmax _softmax softplus tanh threshold"""
_FAKE_QUANTIZERS = """_fused_moving_avg_obs_fq_helper _fake_quantize_per_tensor_affine_cachemask_tensor_qparams
    fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask"""

HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(packets(_ACTIVATIONS), _per_output_element("activation")),
    **dict.fromkeys(NORMS, _per_output_element("norm")),
    **dict.fromkeys(packets("add sub rsub"), _per_output_element("add")),
    **dict.fromkeys(packets("mul div"), _per_output_element("gate")),
    **dict.fromkeys(packets("sign"), _per_output_element("sign")),
    **dict.fromkeys(packets("max_pool2d max_pool2d_with_indices"), _per_output_element("pool")),
    **dict.fromkeys(packets("avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d"), _pooling),
    **dict.fromkeys(packets("mean"), _mean),
    # a quantizer of several bits, including its clipping
    **dict.fromkeys(packets(_FAKE_QUANTIZERS), _per_output_element("activation")),
}
"""ATen operation -> its kind and number; multiply-accumulates come from torch's own formulas."""
