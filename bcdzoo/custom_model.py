"""Anybody's own network, by the name of the Python object that builds it."""

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from bcdzoo.errors import BcdzooError


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without a parallel or compiled module around it, which computes the same."""
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # of torch.compile
            network = inner
        else:
            return network


def import_network(spec: str, **build: Any) -> nn.Module:
    """Import and build a network.

    Args:
        spec: ``package.module:name``, found from the current folder or among the installed packages. The name is that
            of an ``nn.Module``, or of something that gives one when called without arguments.
        **build: Arguments that a network of the zoo would be built with; there must be none.

    Raises:
        BcdzooError: No such module or name, the call fails, it gives something else, or there are arguments.
    """
    if build:
        raise BcdzooError(f"{', '.join(build)}: only for networks of the zoo; give a callable that builds yours so")
    module_name, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), name)
        network = found if isinstance(found, nn.Module) else found()
    except (Exception, SystemExit) as error:  # other people's code fails as it likes
        reason = " ".join(str(error).split())
        raise BcdzooError(
            f"cannot build {spec!r} (package.module:callable): {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(network, nn.Module):
        raise BcdzooError(f"{spec} gives a {type(network).__name__}, not a torch.nn.Module")
    return network
