"""What a network does with an image, operation by operation: below its modules, as torch dispatches it.

What is computed from the weights alone (their signs, a rotation, weight normalization) is computed once and for all;
only operations on what depends on the image are seen. Where torch has a fused kernel and also the operations that it
stands for, the latter are run.
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
    """One who sees every operation; what to do with it is a subclass's.

    Args:
        modules: By path, "" being the network; each operation belongs to the innermost that it happens in.

    Attributes:
        inside: Paths of the modules that are being run, from the network to the innermost.
        sums: The element-wise products.
        pairs: Other element-wise combinations of two tensors.
    """

    supports_higher_order_operators = True

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        self.modules = modules
        self.inside = [""]
        self.sums, self.pairs = Sums(self.depends), Pairs(self.depends)
        self._of_image: dict[int, StorageWeakRef] = {}  # the references keep an address from being given twice
        self._constants: set[int] = set()
        self._escaped: set[str] = set()  # modules, with those around them
        self._fake: dict[int, tuple[int, StorageWeakRef]] = {}
        self._made: dict[int, StorageWeakRef] = {}

    def multiplied(self, operation: Multiplication, macs: int, path: str) -> None:
        """A matrix product or convolution has been computed."""
        raise NotImplementedError

    def other(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> None:
        """So has something else."""

    def not_recognised(self, name: str, path: str) -> None:
        """Element-wise operations have come together to a layer that is no product."""

    def escaped(self, name: str) -> None:
        """Numbers that depend on the images leave torch, where nobody sees what becomes of them."""

    def before(self, packet: Any, args: tuple[Any, ...]) -> None:
        """An operation is about to be computed."""

    def entered(self, path: str) -> None:
        """A module is about to be run."""

    def left(self, path: str, inputs: tuple[Any, ...], output: Any) -> None:
        """A module has been run."""

    def run(self, images: Tensor, call: Callable[[Tensor], Any] | None = None) -> Any:
        """Run the network on some images.

        Args:
            images: (N, 3, H, W).
            call: In place of the network.
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
        except (NotImplementedError, RuntimeError):  # sparse and the like: nobody knows
            return True

    def is_constant(self, x: Tensor) -> bool:
        """Whether a tensor was made as such, and all its values are one."""
        if x.is_meta or x.untyped_storage()._cdata not in self._constants:
            return False
        return x.numel() > 1 and bool((x == x.flatten()[0]).all())

    def is_made(self, x: Tensor) -> bool:
        """Whether a tensor was made with values that depend on nothing, as the first state of a recurrent layer is."""
        return x.untyped_storage()._cdata in self._made

    def declared_bits(self, x: Tensor) -> int:
        """Of a number of a tensor, by the fake quantizer that it comes from; 0 where it comes from none."""
        return self._fake.get(x.untyped_storage()._cdata, (0, None))[0] if x.layout == torch.strided else 0

    def mark(self, x: Any) -> None:
        """Take a tensor for one that depends on the images."""
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
            while self.inside.pop() != path:  # one inside has failed, and the network went on without it
                pass
            if path in self._escaped:
                for part in tree_leaves(output):
                    self.mark(part)
            self.left(path, inputs, output)

        if path and not isinstance(module, torch.jit.ScriptModule):  # which calls none
            yield module.register_forward_pre_hook(enter)
            yield module.register_forward_hook(leave)

    def escape(self, x: Tensor, name: str) -> None:
        """Take note that a tensor's numbers are read by something that is not torch."""
        if x.numel() > 1 and self.depends(x):
            self._escaped.update(self.inside)
            self.escaped(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # what is looked at here is nothing that the network does
            return self._dispatch(func, args, kwargs or {})

    def _dispatch(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        packet = getattr(func, "_overloadpacket", func)  # flex_attention and its like have none
        if packet not in MACS and isinstance(func, torch._ops.OpOverload) and func is not torch.ops.prim.device.default:
            with self:
                out = func.decompose(*args, **kwargs)  # in inference mode torch itself does not
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
            if any(constant):  # a sum that is written as a product with ones
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
        """Its operands, if they are tensors whose numbers can be looked at."""
        if not all(_is_plain(part) for part in tree_leaves(args) if isinstance(part, Tensor)):
            return None
        return operands(packet, args, self.depends)


def _summed(packet: Any, args: tuple[Any, ...], depends: Callable[[Tensor], bool]) -> tuple[Tensor, list[int]]:
    """What is multiplied with ones, and the dimensions that this sums over."""
    if packet is aten.convolution:
        return args[0], list(range(1, args[0].ndim))
    first, second = [arg for arg in args if isinstance(arg, Tensor)][-2:]
    return (first, [first.ndim - 1]) if depends(first) else (second, [max(second.ndim - 2, 0)])


def _is_sum(weights: Tensor) -> bool:
    """Whether a product with weights is a sum, but for a scale of each output channel."""
    return not weights.is_meta and bool((weights == weights[:, :1]).all())


def _is_plain(x: Tensor) -> bool:
    return x.layout == torch.strided and not x.is_quantized and not x.is_complex() and not x.is_nested


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """Arguments that an operation writes to."""
    schema = getattr(func, "_schema", None)
    for place, argument in enumerate(schema.arguments if schema else ()):
        if argument.alias_info and argument.alias_info.is_write:
            yield from tree_leaves(args[place] if place < len(args) else kwargs.get(argument.name))


def _fake_bits(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Bits of what a fake quantizer gives; 0 for any other operation."""
    if not isinstance(func, torch._ops.OpOverload) or not any(part in func._schema.name for part in _FAKE):
        return 0
    named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | dict(kwargs)
    is_on = named.get("fake_quant_on", named.get("fake_quant_enabled"))
    if "quant_max" not in named or (isinstance(is_on, Tensor) and not is_on.is_meta and not is_on.any()):
        return 0
    return int(named["quant_max"] - named["quant_min"]).bit_length()


class _Python(TorchFunctionMode):
    """Sees what never reaches the dispatcher: numbers that leave torch, and the one layer that is fused before it."""

    def __init__(self, running: Running) -> None:
        super().__init__()
        self.running = running

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LEAVES and isinstance(args[0], Tensor):
            self.running.escape(args[0], f"Tensor.{name}")
        if name in _RECURRENT:  # the state is an activation from its first value on
            for part in tree_leaves(args[1]):
                self.running.mark(part)
        if name == "lstm":
            with torch.backends.mkldnn.flags(enabled=False):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def _unfused() -> Iterator[None]:
    """In which attention is matrix products, encoder layers are their parts, and nothing is compiled."""
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
"""Operations that make a tensor of a size, whatever another one holds."""
