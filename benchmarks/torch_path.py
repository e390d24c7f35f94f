"""Speed of the plain torch path of BCDNet-A beside the authors' own network, in one run.

The authors' code is not part of this repository: give a checkout of Sense-GVT/BCDNet. Their network computes the
gradient surrogate of the sign in inference too; this one does not.

    python -m benchmarks.torch_path --authors path/to/BCDNet [--batch-size 16] [--threads 2]
"""

import importlib.util
import sys
import time
import types
from pathlib import Path

import click
import torch
from torch import nn

import bcdzoo
from bcdzoo.layers.int8 import with_int8


def authors_network(checkout: Path) -> nn.Module:
    """Their ``a_3``, built with torch's own batch norm in place of their training framework's."""
    helpers = types.ModuleType("prototype.utils.misc")
    helpers.get_logger = lambda *_: None  # type: ignore[attr-defined]
    helpers.get_bn = lambda _: nn.BatchNorm2d  # type: ignore[attr-defined]
    for name in ("prototype", "prototype.utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["prototype.utils.misc"] = helpers
    spec = importlib.util.spec_from_file_location("a_3", checkout / "prototype" / "model" / "a_3.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module = module.a_3()
    return network


@click.command()
@click.option("--authors", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(authors: Path, batch_size: int, threads: int, repeats: int) -> None:
    """Print images/s of both, alternating, the best of some repeats, and their ratio."""
    torch.set_num_threads(threads)
    networks = {
        "authors": authors_network(authors).eval(),
        "bcdzoo": with_int8(bcdzoo.create_model("bcdnet-a").eval()),
    }
    images = torch.randn(batch_size, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    best = dict.fromkeys(networks, 0.0)
    with torch.inference_mode():
        for _ in range(repeats):
            for name, network in networks.items():
                start = time.perf_counter()
                network(images)
                best[name] = max(best[name], batch_size / (time.perf_counter() - start))
    for name, speed in best.items():
        click.echo(f"{name:8} {speed:6.2f} images/s")
    click.echo(f"ratio    {best['bcdzoo'] / best['authors']:6.2f}  (batch {batch_size}, {threads} threads)")


if __name__ == "__main__":
    main()
