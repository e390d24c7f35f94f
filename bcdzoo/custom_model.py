"""Users' own networks, by the name of the Python object that builds them."""

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network without wrappers for parallel or compiled execution."""
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # of torch.compile
            network = inner
        else:
            return network


def is_onnx_file(model: str) -> bool:
    """Whether a network is given as an ONNX file, which :mod:`bcdzoo.interchange.importing` reads."""
    return model.endswith(".onnx")


def import_network(spec: str, **build: Any) -> nn.Module:
    """Import and build a network.

    Args:
        spec: Name ``package.module:name``, looked up from the current folder and among the installed packages: an
            ``nn.Module``, or something that returns one when called.
        **build: Arguments of the call.

    Raises:
        BcdzooError: No such module or name, an argument that is not taken, the call fails or returns something else.
    """
    found = _import(spec)
    if isinstance(found, nn.Module):
        if build:
            raise BcdzooError(f"{spec} is a network that is built already, and takes no {_names(build)}")
        return found
    takes = _parameters(found)
    if takes is not None and (unknown := build.keys() - takes):
        near = near_ones(min(unknown), takes)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(takes) or 'nothing'}"
        raise BcdzooError(f"{spec} takes no {_names(unknown)}; {hint}")
    with _failing(spec):
        network = found(**build)
    if not isinstance(network, nn.Module):
        raise BcdzooError(f"{spec} returns a {type(network).__name__}, not a torch.nn.Module")
    return network


def taken_arguments(spec: str) -> list[str]:
    """Names of the arguments that a network of :func:`import_network` says it takes.

    Raises:
        BcdzooError: No such module or name.
    """
    found = _import(spec)
    return [] if isinstance(found, nn.Module) else list(_parameters(found) or ())


def default_values(spec: str) -> dict[str, Any]:
    """Arguments that a network of :func:`import_network` has values of its own for.

    Raises:
        BcdzooError: No such module or name.
    """
    try:
        parameters = inspect.signature(_import(spec)).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _import(spec: str) -> Any:
    module_name, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _failing(spec):
        return getattr(importlib.import_module(module_name), name)


@contextmanager
def _failing(spec: str) -> Iterator[None]:
    """Other people's code fails as it likes."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise BcdzooError(
            f"cannot build {spec!r} (package.module:callable): {type(error).__name__}: {reason}"
        ) from error


def _parameters(found: Any) -> list[str] | None:
    """Names of what something takes by name; None where it does not say, or takes any."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind == each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


def _names(build: Iterable[str]) -> str:
    return printable(", ".join(sorted(build)), 100)
