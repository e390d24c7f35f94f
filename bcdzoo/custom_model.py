"""Users' own networks, by the name of the Python object that builds them."""

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from bcdzoo.errors import BcdzooError


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network without wrappers for parallel or compiled execution."""
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
        spec: Name ``package.module:name``, looked up from the current folder and among the installed packages: an
            ``nn.Module``, or something that returns one when called without arguments.
        **build: Arguments for networks of the zoo; must be empty.

    Raises:
        BcdzooError: No such module or name, the call fails or returns something else, or there are arguments.
    """
    if build:
        raise BcdzooError(f"{', '.join(build)}: only for networks of the zoo; use a callable that builds yours with it")
    module_name, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), name)
        network = found if isinstance(found, nn.Module) else found()
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        reason = " ".join(str(error).split())
        raise BcdzooError(
            f"cannot build {spec!r} (package.module:callable): {type(error).__name__}: {reason}"
        ) from error
    if not isinstance(network, nn.Module):
        raise BcdzooError(f"{spec} returns a {type(network).__name__}, not a torch.nn.Module")
    return network
