"""A network, made ready for each backend and number format."""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.graph.record import NotLoweredError
from bcdzoo.layers.int8 import with_int8
from bcdzoo.packed.module import EngineModule
from bcdzoo.packed.pack import PackedNetwork, PlanNetwork, pack, plan_of
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.work import work
from bcdzoo.text import printable

RUNTIMES = ("openvino", "onnxruntime")
"""Other people's, which run a network's plan; each an extra of this package, and a module here."""

BACKENDS = ("torch", "torch.compile", "packed", *RUNTIMES)

PRECISIONS = ("float32", "bfloat16", "int8", "bits")
"""Number formats; bits are of low-bit layers, beside float32."""

CALIBRATION = 2
"""Random images that an int8 network is quantized with: enough to time it, and not to classify anything."""


class LacksError(BcdzooError):
    """A backend or this processor does not have a number format."""


class Variant(NamedTuple):
    """A network on one backend.

    Attributes:
        backend: One of :data:`BACKENDS`.
        precision: One of :data:`PRECISIONS`.
        run: What runs a batch.
        streams: Parts into which a batch is split, each on a thread; 0 where the backend shares its work by itself.
        network: The packed network, if it is one.
    """

    backend: str
    precision: str
    run: Callable[[Tensor], Any]
    streams: int = 0
    network: EngineModule | None = None

    @property
    def name(self) -> str:
        """Backend and precision, as a table names them: what a backend always has is not said."""
        return f"{self.backend} {self.precision}" if self.backend in RUNTIMES else self.backend


class Wanted(NamedTuple):
    """What is to be measured of a network.

    Attributes:
        backends: Some of :data:`BACKENDS`.
        precisions: Some of :data:`PRECISIONS`; none for all.
        shape: Shape of a batch.
    """

    backends: Sequence[str]
    precisions: Sequence[str]
    shape: tuple[int, ...]

    def has(self, precision: str) -> bool:
        """Whether a number format is wanted."""
        return not self.precisions or precision in self.precisions


def require(backends: Iterable[str]) -> None:
    """Check that the runtimes among some backends are installed.

    Raises:
        BcdzooError: One is not; the message names the extra.
    """
    for backend in backends:
        if backend in RUNTIMES:
            _module(backend)


def variants(network: nn.Module, wanted: Wanted) -> tuple[list[Variant], list[str]]:
    """Make a network ready for each of the backends, and say in words what was left out and why.

    Args:
        network: Network, or a packed one.
        wanted: What is to be measured.
    """
    found: list[Variant] = []
    left: list[str] = []
    for backend in wanted.backends:
        try:
            made = list(_MAKE[backend](network, wanted, left))
        except Exception as error:  # other people's networks, compilers and quantizers raise what they like
            left.append(f"{backend}: {printable(error, 300)}")
            continue
        found += made
    return found, left


def _torch(network: nn.Module, wanted: Wanted, left: list[str]) -> Iterator[Variant]:
    _require_unpacked(network)
    if wanted.has("float32"):
        yield Variant("torch", "float32", with_int8(network))


def _compiled(network: nn.Module, wanted: Wanted, left: list[str]) -> Iterator[Variant]:
    _require_unpacked(network)
    if wanted.has("float32"):
        yield Variant("torch.compile", "float32", torch.compile(network))


def _require_unpacked(network: nn.Module) -> None:
    if isinstance(network, EngineModule):
        raise BcdzooError("it is packed, and has no other form")


def _packed(network: nn.Module, wanted: Wanted, left: list[str]) -> Iterator[Variant]:
    if not wanted.has("bits"):
        return
    packed = network if isinstance(network, EngineModule) else pack(network)
    if isinstance(packed, PackedNetwork) and not packed.is_packed:
        raise BcdzooError("the 1-bit kernels are missing")
    yield Variant("packed", "bits", packed, network=packed)


def _in_runtime(backend: str) -> Callable[[nn.Module, Wanted, list[str]], Iterator[Variant]]:
    def make(network: nn.Module, wanted: Wanted, left: list[str]) -> Iterator[Variant]:
        plan = scaled_weights(plan_for(network, wanted.shape[1:]))
        real = not work(plan).binary
        for precision in filter(wanted.has, PRECISIONS):
            if precision == ("bits" if real else "int8"):
                continue  # there are none; or they are int8's ±1 with more of everything
            try:
                ways = _module(backend).runs(plan, precision, wanted.shape)
            except LacksError as error:
                if precision in wanted.precisions:
                    left.append(f"{backend} {precision}: {error}")
                continue
            for streams, run in ways.items():
                yield Variant(backend, precision, run, streams)

    return make


_MAKE: dict[str, Callable[[nn.Module, Wanted, list[str]], Iterator[Variant]]] = {
    "torch": _torch,
    "torch.compile": _compiled,
    "packed": _packed,
    **{runtime: _in_runtime(runtime) for runtime in RUNTIMES},
}


def _module(backend: str) -> Any:
    try:
        return importlib.import_module(f"bcdzoo.bench.in_{backend}")
    except ImportError as error:
        what = f"the backend {backend} needs packages that cannot be imported ({printable(error, 200)})"
        raise BcdzooError(f"{what}: pip install 'bcdzoo[{backend}]'") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep other people's quantizers from reporting what they do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def plan_for(network: nn.Module, shape: tuple[int, ...]) -> Plan:
    """The plan of a network, for images of a shape.

    Raises:
        BcdzooError: It has none.
    """
    if isinstance(network, PlanNetwork):
        return network.plan
    try:
        return plan_of(network.network if isinstance(network, PackedNetwork) else network, shape)
    except NotLoweredError as error:
        raise BcdzooError(f"no plan has what it computes: {printable(error, 300)}") from None


def scaled_weights(plan: Plan) -> Plan:
    """A plan whose real-valued convolutions have the scale of their normalization in their weights.

    Every runtime is at its fastest with it, and its quantizer knows no other form. It rounds otherwise: only for
    measuring time.
    """
    operations = []
    for operation in plan.operations:
        constants = operation.constants
        if operation.kind == "conv" and "alpha" in constants:
            alpha = constants["alpha"]
            weight = constants["weight"] * alpha.reshape(-1, 1, 1, 1)
            bias = constants["beta"] + alpha * constants.get("bias", 0)
            operation = replace(operation, constants={"weight": weight, "bias": bias.astype(weight.dtype)})
        operations.append(operation)
    return replace(plan, operations=tuple(operations))
