"""Counting operations, layer by layer, without weights and without arithmetic (docs/counting.md).

The network runs once on torch's meta device. Layers of this zoo state their operations themselves
(:class:`bcdzoo.layers.metadata.Counted`); every other tensor operation is looked up by its ATen name, so that anybody's
network can be counted. What is in neither is reported as unsupported.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.metadata import Counted, OpCounts
from bcdzoo.ops.conventions import BINARY, CONVENTIONS, Convention
from bcdzoo.own import import_network
from bcdzoo.registry import create_model, find

aten = torch.ops.aten


@dataclass
class LayerOps:
    """Operations of one module for one image.

    Attributes:
        name: Its path in the network.
        type: Its class.
        w_bits: Bits of its weights, None where it has no multiplications.
        a_bits: Bits of its activations there.
        output_shape: Shape of its output for one image, without the batch.
        bops: Binary operations.
        flops: Real-valued operations under the report's convention.
        params: Parameters it owns.
        counts: Operations by kind (:data:`bcdzoo.ops.conventions.KINDS`).
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


@dataclass
class OpsReport:
    """Operations of a network for one image.

    Attributes:
        model: Its name.
        convention: Name of the counting convention.
        input_size: Height and width of the image in pixels.
        layers: One record for each module that computes something or has parameters.
        unsupported: Tensor operations that the counter does not know, and where; they are in no total.
    """

    model: str
    convention: str
    input_size: int
    layers: list[LayerOps] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)

    @property
    def bops(self) -> int:
        """Binary operations."""
        return sum(layer.bops for layer in self.layers)

    @property
    def flops(self) -> int:
        """Real-valued operations."""
        return sum(layer.flops for layer in self.layers)

    @property
    def ops(self) -> int:
        """FLOPs + BOPs / 64, rounded to an integer."""
        return self.flops + round(self.bops / 64)

    @property
    def params(self) -> int:
        """Parameters."""
        return sum(layer.params for layer in self.layers)


def count_ops(
    model: str | nn.Module, convention: str = "full", input_size: int | None = None, **arguments: Any
) -> OpsReport:
    """Count the operations of a network for one image of 3 channels.

    Args:
        model: A network of the zoo by name, any by ``package.module:callable``, or a module that takes (N, 3, H, W); it
            is left as it was.
        convention: "full" or "dagger" (:mod:`bcdzoo.ops.conventions`).
        input_size: Height and width of the image in pixels; by default those that a network of the zoo was published
            for, and 224 for any other module.
        **arguments: For a network given by name, as in :func:`bcdzoo.create_model`.

    Raises:
        BcdzooError: Unknown name or convention, or the network cannot run on the meta device at this size.
    """
    if convention not in CONVENTIONS:
        raise BcdzooError(f"no convention named {convention!r}; there are {', '.join(CONVENTIONS)}")
    if isinstance(model, str):
        name = model
        with torch.device("meta"):
            model = import_network(name, **arguments) if ":" in name else create_model(name, **arguments)
        if ":" not in name:
            input_size = input_size or find(name).input_size
    else:
        name = type(model).__name__
    return _report(name, _Trace(model), CONVENTIONS[convention], input_size or 224)


def _report(name: str, trace: "_Trace", convention: Convention, input_size: int) -> OpsReport:
    trace.run(input_size)
    report = OpsReport(name, convention.name, input_size, unsupported=trace.unsupported())
    for path, module in trace.owners.items():
        counts = dict(trace.counts[path])
        params = sum(p.numel() for p in module.parameters(recurse=isinstance(module, Counted)))
        if not counts and not params:
            continue
        multiplies = BINARY in counts or "mac" in counts
        report.layers.append(
            LayerOps(
                name=path,
                type=type(module).__name__,
                w_bits=getattr(module, "w_bits", 32) if multiplies else None,
                a_bits=getattr(module, "a_bits", 32) if multiplies else None,
                output_shape=trace.shapes.get(path, ()),
                bops=counts.get(BINARY, 0),
                flops=convention.flops(counts),
                params=params,
                counts=counts,
            )
        )
    return report


class _Trace(TorchDispatchMode):
    """One run of a network on the meta device: operations and output shapes by the path of the module they belong to.

    A module that counts itself owns all that happens inside it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        self.model = model
        self.owners = _owners(model)
        self.counts: dict[str, Counter[str]] = {path: Counter() for path in self.owners}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._unknown: dict[str, list[str]] = {}
        self._inside: list[str] = []

    def run(self, input_size: int) -> None:
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        on_meta = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
        training = {module: module.training for module in self.model.modules()}
        hooks = [hook for path, module in self.owners.items() for hook in self._watch(path, module)]
        image = torch.zeros(1, 3, input_size, input_size, device="meta")
        try:
            with torch.no_grad(), torch.device("meta"), self:
                torch.func.functional_call(self.model.eval(), on_meta, image)
        except Exception as error:
            message = str(error).split("\n")[0]
            at = self._inside[-1] if self._inside else "the network"
            raise BcdzooError(
                f"cannot count at input size {input_size}: {at or 'the network'} fails on the meta device: {message}"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
            for module, mode in training.items():
                module.training = mode

    def _watch(self, path: str, module: nn.Module) -> list[Any]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._inside.append(path)

        def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            self._inside.pop()
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, Tensor):
                self.shapes[path] = tuple(first.shape[1:])
            if isinstance(module, Counted):
                self.counts[path].update(module.op_counts(inputs, output))

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        path = self._inside[-1] if self._inside else ""
        packet = func._overloadpacket
        if isinstance(self.owners[path], Counted) or packet in FREE:
            return out
        if packet in flop_registry:
            self.counts[path]["mac"] += flop_registry[packet](*args, **kwargs, out_val=out) // 2
        elif packet in HANDLERS:
            kind, number = HANDLERS[packet](args, out)
            self.counts[path][kind] += number
        else:
            self._unknown.setdefault(str(packet), []).append(path or "the network")
        return out

    def unsupported(self) -> list[str]:
        """One line per unknown operation: how often, and where first."""
        return [f"{name} ×{len(paths)}, first in {paths[0]}" for name, paths in self._unknown.items()]


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its path, but for those inside a module that counts itself."""
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
_NORMS = """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
    native_layer_norm native_group_norm"""
_FREE = """_reshape_alias _to_copy _unsafe_view alias arange as_strided cat chunk clone constant_pad_nd contiguous copy
    detach empty empty_like expand flip full full_like gather index index_select lift_fresh masked_fill narrow new_empty
    new_full new_ones new_zeros ones ones_like permute pixel_shuffle pixel_unshuffle reflection_pad2d replication_pad2d
    repeat roll scalar_tensor select slice split split_with_sizes squeeze stack t transpose unbind unsqueeze view where
    zeros zeros_like"""


def _packets(names: str) -> list[Any]:
    """The operations of these names and their in-place twins."""
    present = [getattr(aten, twin, None) for name in names.split() for twin in (name, name + "_")]
    return [packet for packet in present if packet is not None]


FREE = set(_packets(_FREE))
"""Operations that move or make data and compute nothing."""

HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(_packets(_ACTIVATIONS), _per_output_element("activation")),
    **dict.fromkeys(_packets(_NORMS), _per_output_element("norm")),
    **dict.fromkeys(_packets("add sub rsub"), _per_output_element("add")),
    **dict.fromkeys(_packets("mul div"), _per_output_element("gate")),
    **dict.fromkeys(_packets("sign"), _per_output_element("sign")),
    **dict.fromkeys(_packets("max_pool2d max_pool2d_with_indices"), _per_output_element("pool")),
    **dict.fromkeys(_packets("avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool2d"), _pooling),
    **dict.fromkeys(_packets("mean"), _mean),
}
"""ATen operation -> the kind and number it counts as; multiply-accumulates come from torch's own formulas."""
