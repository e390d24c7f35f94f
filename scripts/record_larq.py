"""Record what larq-zoo's own networks give, for tests/weights/test_larq.py; run in an environment of its own.

It needs Python 3.11 with ``tensorflow-cpu==2.15.*``, ``larq-zoo==2.4.*`` and ``numpy<2``, and neither torch nor this
package: ``PYTHONPATH=. python scripts/record_larq.py [NAME...]``. With ``--files FOLDER`` it also writes each network's
own files there, with the top, without it, and of the whole model.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import larq  # type: ignore[import-not-found]
import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]
from larq_zoo import literature, sota

from tests.weights.larq import FOLDER, described, images, weight

SOURCE = "larq/zoo@77c5853 larq_zoo/{}.py (larq_zoo 2.4.0, larq 0.14.0, TensorFlow 2.15.1, float64)"
NETWORKS: dict[str, tuple[Any, str, int]] = {  # its function, where that is, and the size of the images
    "quicknet-small": (sota.QuickNetSmall, "sota/quicknet", 100),
    "quicknet": (sota.QuickNet, "sota/quicknet", 100),
    "quicknet-large": (sota.QuickNetLarge, "sota/quicknet", 100),
    "binarydensenet-28": (literature.BinaryDenseNet28, "literature/densenet", 60),
    "binarydensenet-37": (literature.BinaryDenseNet37, "literature/densenet", 60),
    "binarydensenet-37-dilated": (literature.BinaryDenseNet37Dilated, "literature/densenet", 60),
    "binarydensenet-45": (literature.BinaryDenseNet45, "literature/densenet", 60),
    "binaryresnete-18": (literature.BinaryResNetE18, "literature/resnet_e", 96),
    "binaryalexnet": (literature.BinaryAlexNet, "literature/binary_alex_net", 224),
    "xnornet-alexnet": (literature.XNORNet, "literature/xnornet", 224),
    "dorefanet-alexnet": (literature.DoReFaNet, "literature/dorefanet", 224),
}


def build(name: str, **arguments: Any) -> Any:
    """The network with the weights of :func:`tests.weights.larq.weight`, its layers numbered from 0."""
    tf.keras.backend.clear_session()
    function, _, size = NETWORKS[name]
    model = function(weights=None, **{"input_shape": (size, size, 3), **arguments})
    for layer in model.layers:
        layer.set_weights([weight(f"{layer.name}/{w.name}", w.shape.as_list()) for w in layer.weights])
    return model


def summary(model: Any) -> dict[str, int]:
    """The totals of larq's own summary."""
    profile = larq.models.ModelProfile(model)
    macs = {f"{bits}-bit MACs": profile.op_count("mac", bits) for bits in profile.unique_op_precisions}
    return {"params": model.count_params(), **macs}


def main() -> None:
    """Record the networks named in the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--files", type=Path)
    arguments = parser.parse_args()
    for name in arguments.names:
        _, module, size = NETWORKS[name]
        tf.keras.backend.set_floatx("float32")
        content = {"source": SOURCE.format(module), "size": size, "summary": summary(build(name, input_shape=None))}
        tf.keras.backend.set_floatx("float64")
        x = images(size).astype(np.float64)
        whole, notop = build(name), build(name, include_top=False)
        logits = tf.keras.Model(whole.input, whole.layers[-1].input)(x, training=False).numpy()
        content["top1"] = logits.argmax(1).tolist()
        content["logits"] = logits[:, :50].round(6).tolist()
        content["features"] = notop(x, training=False).numpy().mean((1, 2))[:, :50].round(6).tolist()
        content["layers"] = [
            described(layer.name, {w.name: w.shape.as_list() for w in layer.weights}) for layer in whole.layers
        ]
        content["without_top"] = len(notop.layers)
        (FOLDER / f"larq-{name}.json").write_text(json.dumps(content, separators=(",", ":"), indent=0) + "\n")
        if arguments.files:
            tf.keras.backend.set_floatx("float32")
            arguments.files.mkdir(exist_ok=True)
            whole = build(name, input_shape=None)
            whole.save_weights(arguments.files / f"{name}.h5")
            whole.save(arguments.files / f"{name}-model.h5")
            build(name, input_shape=None, include_top=False).save_weights(arguments.files / f"{name}-notop.h5")


if __name__ == "__main__":
    main()
