"""Observe what a network does with an image, operation by operation, as torch dispatches them.

What is computed from weights alone (their signs, a rotation, weight normalization) is computed only once;
only operations that depend on the image are observed. If torch can decompose a fused kernel into its
operations, these are run.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bcdzoo.trace.known import packets
from bcdzoo.trace.pairs import Pairs
from bcdzoo.trace.products import MACS, Multiplication, operands
from bcdzoo.trace.sums import Sums

aten = torch.ops.aten


class Running(TorchDispatchMode):
    """Base class of observers of every operation.

    Args:
        modules: Modules by path, "" for the network; each operation belongs to the innermost one in which it runs.

    Attributes:
        inside: Paths of the running modules, from the network to the innermost.
        sums: Element-wise products.
        pairs: Other element-wise combinations of two tensors.
    """

    supports_higher_order_operators = True

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        self.modules = modules
        self.inside = [""]
        self.sums, self.pairs = Sums(self.depends), Pairs(self.depends)
        self._of_image: dict[int, StorageWeakRef] = {}  # references, so that addresses are not reused
        self._constants: set[int] = set()
        self._escaped: set[str] = set()  # modules, including outer ones
        self._fake: dict[int, tuple[int, StorageWeakRef]] = {}
        self._made: dict[int, StorageWeakRef] = {}

    def multiplied(self, operation: Multiplication, macs: int, path: str) -> None:
        """Called after a matrix product or convolution."""
        raise NotImplementedError

    def other(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """Called after any other operation."""

    def not_recognised(self, name: str, path: str) -> None:
        """Called when element-wise operations form a layer that is not a product."""

    def escaped(self, name: str) -> None:
        """Called when values that depend on the images leave torch."""

    def before(self, packet: Any, args: tuple[Any, ...]) -> None:
        """Called before an operation."""

    def entered(self, path: str) -> None:
        """Called before a module runs."""

    def left(self, path: str, inputs: tuple[Any, ...], output: Any) -> None:
        """Called after a module has run."""

    def run(self, images: Tensor, call: Callable[[Tensor], Any] | None = None) -> Any:
        """Run the network on some images.

        Args:
            images: Images, (N, 3, H, W).
            call: Function to call instead of the network.
        """
        self._of_image, self._constants, self._escaped, self.inside = {}, set(), set(), [""]
        self._fake, self._made = {}, {}
        self.sums.restart()
        self.pairs.restart()
        self.mark(images)
        hooks = [hook for path, module in self.modules.items() for hook in self._watch(path, module)]
        try:
            with _unfused(), _Python(self), self:
                out = (call or self.modules[""])(images)
        finally:
            for hook in hooks:
                hook.remove()
        self.left("", (images,), out)
        return out

    def depends(self, x: Tensor) -> bool:
        """Whether a tensor depends on the images."""
        try:
            return x.untyped_storage()._cdata in self._of_image
        except (NotImplementedError, RuntimeError):  # sparse and the like: unknown
            return True

    def is_constant(self, x: Tensor) -> bool:
        """Whether a tensor was created with a constant value, and still has it."""
        if x.is_meta or x.untyped_storage()._cdata not in self._constants:
            return False
        return x.numel() > 1 and bool((x == x.flatten()[0]).all())

    def is_made(self, x: Tensor) -> bool:
        """Whether a tensor was created independently of others, like the first state of a recurrent layer."""
        return x.untyped_storage()._cdata in self._made

    def declared_bits(self, x: Tensor) -> int:
        """Return the bits stated by the fake quantizer that made a tensor; 0 if there is none."""
        return self._fake.get(x.untyped_storage()._cdata, (0, None))[0] if x.layout == torch.strided else 0

    def mark(self, x: Any) -> None:
        """Mark a tensor as dependent on the images."""
        if isinstance(x, Tensor):
            try:
                storage = x.untyped_storage()
            except (NotImplementedError, RuntimeError):
                return
            if storage._cdata not in self._of_image:
                self._of_image[storage._cdata] = StorageWeakRef(storage)

    def _watch(self, path: str, module: nn.Module) -> Iterator[Any]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self.inside.append(path)
            self.entered(path)

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            while self.inside.pop() != path:  # an inner module failed, and the network caught the error
                pass
            if path in self._escaped:
                for part in tree_leaves(output):
                    self.mark(part)
            self.left(path, inputs, output)

        if path and not isinstance(module, torch.jit.ScriptModule):  # does not call hooks
            yield module.register_forward_pre_hook(enter)
            yield module.register_forward_hook(leave)

    def escape(self, x: Tensor, name: str) -> None:
        """Record that something outside torch reads a tensor's values."""
        if x.numel() > 1 and self.depends(x):
            self._escaped.update(self.inside)
            self.escaped(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # operations of the observer are not the network's
            return self._dispatch(func, args, kwargs or {})

    def _dispatch(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        packet = getattr(func, "_overloadpacket", func)  # flex_attention and the like have none
        if packet not in MACS and isinstance(func, torch._ops.OpOverload) and func is not torch.ops.prim.device.default:
            with self:
                out = func.decompose(*args, **kwargs)  # torch does not do this in inference mode
            if out is not NotImplemented:
                return out
        given = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
        touched = any(map(self.depends, given))
        if touched:
            self.before(packet, args)
        out = func(*args, **kwargs)
        if packet in MAKES:
            storage = out.untyped_storage()
            self._made[storage._cdata] = StorageWeakRef(storage)
            if packet in _CONSTANTS:
                self._constants.add(storage._cdata)
            return out
        bits = _fake_bits(func, args, kwargs)
        if packet in _KEEPS_LEVELS:
            bits = self.declared_bits(args[0])
        if bits:
            for part in tree_leaves(out):
                if isinstance(part, Tensor):
                    self._fake[part.untyped_storage()._cdata] = bits, StorageWeakRef(part.untyped_storage())
        if touched:
            for part in (*tree_leaves(out), *_written(func, args, kwargs)):
                self.mark(part)
            self._see(func, packet, args, kwargs, out)
        return out

    def _see(self, func: Any, packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        path = self.inside[-1]
        layers: list[tuple[str, str]] = []
        if packet in MACS and (operation := self._operation(packet, args)) is not None:
            constant = [self.is_constant(side) for side in (operation.inputs, operation.weights)]
            x, dims = _summed(packet, args, self.depends)
            if any(constant):  # a sum written as a product with ones
                found = self.sums.reduce(x, dims, out.numel())
                layers = [] if found else self.pairs.reduce(x, dims, str(packet))
            else:
                if self.pairs.holds(x) and _is_sum(operation.weights):
                    layers = self.pairs.reduce(x, dims, str(packet))
                found = self.sums.consume(args)
                self.multiplied(operation, MACS[packet](args, kwargs, out), path)
                self.sums.multiplied(out)
        else:
            found = []
            if isinstance(func, torch._ops.OpOverload):
                found = self.sums.follow(func, args, out, path)
                layers = self.pairs.follow(func, args, kwargs, out, path, is_known=bool(found))
            if not found:
                self.other(func, args, kwargs, out)
        for name, place in layers:
            self.not_recognised(name, place)
        for sum_of_products in found:
            self.multiplied(sum_of_products.operation, sum_of_products.macs, sum_of_products.path)

    def _operation(self, packet: Any, args: tuple[Any, ...]) -> Multiplication | None:
        """Return the operands, if their values can be read."""
        if not all(_is_plain(part) for part in tree_leaves(args) if isinstance(part, Tensor)):
            return None
        return operands(packet, args, self.depends)


def _summed(packet: Any, args: tuple[Any, ...], depends: Callable[[Tensor], bool]) -> tuple[Tensor, list[int]]:
    """Return the tensor that is multiplied with ones, and the dimensions of the sum."""
    if packet is aten.convolution:
        return args[0], list(range(1, args[0].ndim))
    first, second = [arg for arg in args if isinstance(arg, Tensor)][-2:]
    return (first, [first.ndim - 1]) if depends(first) else (second, [max(second.ndim - 2, 0)])


def _is_sum(weights: Tensor) -> bool:
    """Whether a product with weights is a sum, up to a scale per output channel."""
    return not weights.is_meta and bool((weights == weights[:, :1]).all())


def _is_plain(x: Tensor) -> bool:
    return x.layout == torch.strided and not x.is_quantized and not x.is_complex() and not x.is_nested


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the arguments that an operation writes to."""
    schema = getattr(func, "_schema", None)
    for place, argument in enumerate(schema.arguments if schema else ()):
        if argument.alias_info and argument.alias_info.is_write:
            yield from tree_leaves(args[place] if place < len(args) else kwargs.get(argument.name))


def _fake_bits(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return the bits of a fake quantizer's output; 0 for any other operation."""
    if not isinstance(func, torch._ops.OpOverload) or not any(part in func._schema.name for part in _FAKE):
        return 0
    named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | dict(kwargs)
    is_on = named.get("fake_quant_on", named.get("fake_quant_enabled"))
    if "quant_max" not in named or (isinstance(is_on, Tensor) and not is_on.is_meta and not is_on.any()):
        return 0
    return int(named["quant_max"] - named["quant_min"]).bit_length()


class _Python(TorchFunctionMode):
    """Observes what never reaches the dispatcher: values that leave torch, and recurrent layers, fused before it."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self.running = running

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LEAVES and isinstance(args[0], Tensor):
            self.running.escape(args[0], f"Tensor.{name}")
        if name in _RECURRENT:  # the initial state is an activation, too
            for part in tree_leaves(args[1]):
                self.running.mark(part)
        if name == "lstm":
            with torch.backends.mkldnn.flags(enabled=False):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def _unfused() -> Iterator[None]:
    """Run attention as matrix products, encoder layers as their parts, and nothing compiled."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    compiled = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    try:
        with compiled, sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


_FAKE = ("fake_quantize", "fq_helper", "quantized_decomposed::quantize")
_KEEPS_LEVELS = set(packets("relu clamp clamp_min hardtanh max_pool2d_with_indices clone constant_pad_nd"))
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
_LEAVES = {"numpy", "tolist", "__array__", "__dlpack__", "data_ptr"}
_CONSTANTS = {aten.ones, aten.ones_like, aten.new_ones, aten.full, aten.full_like, aten.new_full}
MAKES = {
    *_CONSTANTS,
    *(aten.zeros, aten.zeros_like, aten.new_zeros, aten.empty, aten.empty_like, aten.new_empty),
    *(aten.rand_like, aten.randn_like, aten.randint_like, aten.new_empty_strided, aten.empty_strided),
}
"""Operations that create a tensor independently of the values of others."""
