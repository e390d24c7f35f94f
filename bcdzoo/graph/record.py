"""Record a network as operations of a plan while it runs on one image.

Every call of a torch function on something that depends on the image is lowered by :mod:`bcdzoo.graph.functions`, and
every module that declares its lowering (:class:`bcdzoo.layers.lowering.Lowered`) as a whole. What depends on weights
alone is computed, and becomes a constant.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode, resolve_name

from bcdzoo.errors import BcdzooError
from bcdzoo.graph.functions import COMPARISONS, FUNCTIONS, SHAPE_ONLY, Unsupported
from bcdzoo.layers.lowering import Lowered, Value
from bcdzoo.plan.operations import KINDS, Operation, PlanError, Shape, check_operation
from bcdzoo.plan.plan import Plan, shapes_of, without_dead

WINDOW = {"stride": (1, 1), "padding": (0, 0, 0, 0), "same": 0, "pad_value": 0.0, "dilation": (1, 1), "groups": 1}
"""A window without padding."""


class NotLoweredError(BcdzooError):
    """A network has something that no operation of a plan computes.

    Attributes:
        reasons: What and where, one for each.
    """

    def __init__(self, name: str, reasons: list[str]) -> None:
        self.reasons = reasons
        shown = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        super().__init__(f"{name} is no plan: {shown}")


def record(network: nn.Module, image: Tensor, name: str = "") -> Plan:
    """Record a network, operation by operation; nothing is fused yet.

    Args:
        network: Network in evaluation mode, on the CPU in float32.
        image: Image of the size that the plan is for, (1, C, H, W).
        name: Name of the network.

    Raises:
        NotLoweredError: It computes something that is no operation of a plan.
    """
    name = name or type(network).__name__
    recorder = _Recorder(network, image)
    dice = torch.get_rng_state()
    with torch.no_grad(), recorder.watching(), recorder:
        logits = network(image)
    last = recorder.value_of(logits)
    if not torch.equal(dice, torch.get_rng_state()):
        recorder.reasons.append("the network draws random numbers")
    if recorder.reasons:
        raise NotLoweredError(name, recorder.reasons)
    if last is None:
        raise NotLoweredError(name, ["what it returns is no tensor that depends on the image"])
    plan = without_dead(Plan(tuple(image.shape[1:]), tuple(recorder.operations[: last.number]), name))
    shapes_of(plan)
    return plan


class Single:
    """The lowering of a module that is one operation.

    Attributes:
        operation: The operation.
    """

    operation: Operation

    def add(self, kind: str, /, **given: Any) -> Value:
        """As :class:`bcdzoo.layers.lowering.Lowering` says."""
        self.operation, shape = _made(kind, given, "")
        return Value(1, shape)


def _made(kind: str, given: dict[str, Any], name: str) -> tuple[Operation, Shape]:
    """An operation from what :meth:`bcdzoo.layers.lowering.Lowering.add` is given, and the shape of what it gives."""
    given = {key: value for key, value in given.items() if value is not None}
    if "pad_value" in KINDS[kind].fields:
        given = WINDOW | given
    inputs = {key: value for key, value in given.items() if isinstance(value, Value)}
    constants = {key: _array(value) for key, value in given.items() if isinstance(value, Tensor)}
    fields: Any = {key: value for key, value in given.items() if key not in inputs and key not in constants}
    operation = Operation(kind, {key: value.number for key, value in inputs.items()}, fields, constants, name)
    try:
        return operation, check_operation(operation, {key: value.shape for key, value in inputs.items()})
    except PlanError as error:
        raise Unsupported(str(error)) from error


@dataclass(frozen=True)
class _Unknown:
    """Stands for a value that a plan does not have.

    Attributes:
        reason: Why; "" where that has been said.
    """

    reason: str = ""


_WRITTEN = _Unknown("a map is written into by way of another view of it")


class _Recorder(TorchFunctionMode):
    """Follows the image through a network."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.reasons: list[str] = []
        self._names = {id(module): path for path, module in network.named_modules()}
        self._path: list[str] = []
        self._thread = threading.get_ident()  # the hooks of modules are called in all threads
        self._leaf: tuple[nn.Module, Any] | None = None  # with its arguments
        self._values: dict[int, Value | _Unknown] = {}
        self._versions: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is a tensor's own only as long as that lives
        self._memory: set[int] = set()  # where values lie
        self._bind(image, Value(0, tuple(image.shape[1:])))

    def add(self, kind: str, /, **given: Any) -> Value:
        """As :class:`bcdzoo.layers.lowering.Lowering` says."""
        operation, shape = _made(kind, given, self._name)
        self.operations.append(operation)
        return Value(len(self.operations), shape)

    @property
    def _name(self) -> str:
        """Path of the module that is running."""
        return next((path for path in reversed(self._path) if path), "")

    def value_of(self, tensor: Any) -> Value | None:
        """The value that a tensor holds; None where it depends on no image, or on something unknown."""
        found = self._values.get(id(tensor))
        return found if isinstance(found, Value) else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = (resolve_name(func) or f"{func.__module__}.{func.__name__}").removeprefix("torch.")
        if self._leaf is not None or name in SHAPE_ONLY or not self._depends(args, kwargs):
            return func(*args, **kwargs)
        given = self._as_values((args, kwargs))  # before the call, which may write into them
        result = func(*args, **kwargs)
        self._take(result, given, lambda: self._lower(name, given, result))
        return result

    def _depends(self, *given: Any) -> bool:
        return any(id(tensor) in self._values or self._is_in_memory(tensor) for tensor in _tensors(given))

    def _is_in_memory(self, tensor: Tensor) -> bool:
        """Whether a tensor lies where a value does."""
        return _place(tensor) in self._memory

    def _lower(self, name: str, given: Any, result: Any) -> Any:
        if result is not None and not list(_tensors([result])):
            raise Unsupported(f"{name}: what follows depends on the image's numbers")
        if name not in FUNCTIONS:
            raise Unsupported(f"{name} is no operation of a plan")
        if name.endswith("_") and not name.endswith("__") and result._is_view():
            raise Unsupported(f"{name}: writes into a part of a map")
        if wrong := [each.dtype for each in _tensors([result]) if not _is_exact(name, each.dtype)]:
            raise Unsupported(f"{name}: numbers of type {wrong[0]}")
        args, kwargs = given
        try:
            return FUNCTIONS[name](self, *args, **kwargs)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise Unsupported(f"{name}: no operation of a plan has such arguments") from error

    def _take(self, result: Any, given: Any, lowered: Callable[[], Any]) -> None:
        """Bind a result to what it was lowered to; keep the reason where it could not be."""
        try:
            for value in _leaves(given):
                if isinstance(value, _Unknown):
                    raise Unsupported(value.reason)
            self._bind_all(result, lowered())
        except Unsupported as error:
            self._give_up(str(error), result)

    def _give_up(self, reason: str, result: Any) -> None:
        if reason:
            self.reasons.append(f"{self._name or 'the network'}: {reason}")
        for tensor in _tensors([result]):
            self._keep(tensor, _Unknown())

    def _bind(self, tensor: Tensor, value: Value) -> None:
        shape = tuple(tensor.shape)
        batch = 1 if len(value.shape) == 4 else 0  # levels: the bases come before the batch
        if (*shape[:batch], *shape[batch + 1 :]) != value.shape or shape[batch] != 1:
            raise Unsupported(f"a value of shape {shape} is none of one image")
        self._keep(tensor, value)

    def _keep(self, tensor: Tensor, value: Value | _Unknown) -> None:
        self._alive.append(tensor)
        self._values[id(tensor)] = value
        if place := _place(tensor):
            self._memory.add(place)
        self._versions[id(tensor)] = tensor._version

    def _bind_all(self, result: Any, value: Any) -> None:
        if isinstance(result, Tensor):
            if isinstance(value, Value):
                self._bind(result, value)
            return
        for tensor, one in zip(result, value, strict=True):
            self._bind_all(tensor, one)

    def _as_values(self, given: Any) -> Any:
        """Arguments with values in the place of tensors that depend on the image."""
        if isinstance(given, Tensor):
            if id(given) in self._versions and given._version != self._versions[id(given)]:
                return _WRITTEN
            found = self._values.get(id(given), given)
            return _WRITTEN if found is given and self._is_in_memory(given) else found
        if isinstance(given, Mapping):
            return {key: self._as_values(value) for key, value in given.items()}
        if isinstance(given, tuple) and hasattr(given, "_fields"):
            return type(given)(*(self._as_values(value) for value in given))
        if isinstance(given, list | tuple):
            return type(given)(self._as_values(value) for value in given)
        return given

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While modules say when they begin and end."""
        handles = [
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if self._leaf is not None or threading.get_ident() != self._thread:
            return
        self._path.append(self._names.get(id(module), ""))
        with torch._C.DisableTorchFunction():
            if isinstance(module, Lowered) and self._depends(args):
                self._leaf = module, self._as_values(args)

    def _leave(self, module: nn.Module, args: Any, result: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        if self._leaf is not None:
            leaf, given = self._leaf
            if module is not leaf:
                return
            self._leaf = None
            with torch._C.DisableTorchFunction():
                self._take(result, given, lambda: module.lower(self, *given))  # type: ignore[operator]
        self._path.pop()


def _place(tensor: Tensor) -> int:
    """Where a tensor and its views lie in memory; 0 if nowhere."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _is_exact(name: str, dtype: torch.dtype) -> bool:
    """Whether a result holds what float32 would: a comparison's bool, and integers that came from one."""
    return dtype in (torch.float32, torch.int64) or (dtype == torch.bool and name in COMPARISONS)


def _leaves(given: Any) -> Iterator[Any]:
    """What is in nested arguments."""
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, list | tuple):
        for each in given:
            yield from _leaves(each)
    else:
        yield given


def _tensors(given: Any) -> Iterator[Tensor]:
    return (each for each in _leaves(given) if isinstance(each, Tensor))


def _array(tensor: Tensor) -> Any:
    """A constant; words stay words."""
    array = tensor.detach().contiguous().numpy()
    return array if array.dtype == np.uint64 else array.astype(np.float32)
