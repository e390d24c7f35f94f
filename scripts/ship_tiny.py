"""Ship a trained network with this package: latent weights in half precision, for their sign and mean size alone count.

    python scripts/ship_tiny.py runs/bcdnet-tiny/step2.safetensors --data FOLDER

Writes bcdzoo/weights/shipped/MODEL.safetensors, whose lineage has the accuracy of the file as it is shipped, and prints
its hash for weights.toml.
"""

import json
from pathlib import Path

import click
from safetensors.torch import load_file

import bcdzoo
from bcdzoo.files import sha256_of
from bcdzoo.weights.convert import safetensors_metadata
from bcdzoo.weights.sources import SHIPPED
from bcdzoo.weights.tensors import write_tensors


@click.command()
@click.argument("trained", type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Of the evaluation.")
def main(trained: Path, data: Path) -> None:
    """Write the file and measure it."""
    metadata = safetensors_metadata(trained) | {"license": "Apache-2.0"}
    state = {key: tensor.half() if tensor.ndim == 4 else tensor for key, tensor in load_file(trained).items()}
    path = SHIPPED / f"{metadata['model']}.safetensors"
    write_tensors(path, state, metadata)
    result = bcdzoo.evaluate(metadata["model"], data, weights=path)
    lineage = json.loads(metadata["lineage"])
    lineage["evaluation"] |= {"top1": result.top1, "top5": result.top5, "n": result.n}
    write_tensors(path, state, metadata | {"lineage": json.dumps(lineage, sort_keys=True)})
    print(f"{path}: {path.stat().st_size} bytes, top-1 {result.top1:.2f} %, sha256 {sha256_of(path)}")


if __name__ == "__main__":
    main()
