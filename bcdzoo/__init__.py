"""The reference zoo and judge for binary neural networks."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcdzoo.evaluation.loop import evaluate
    from bcdzoo.evaluation.predict import predict
    from bcdzoo.interchange.importing import load_qonnx
    from bcdzoo.ops.count import count_ops
    from bcdzoo.packed.checkpoint import load_packed
    from bcdzoo.packed.pack import pack
    from bcdzoo.registry import create_model, list_models
    from bcdzoo.weights.load import load_model

__all__ = [
    "count_ops",
    "create_model",
    "evaluate",
    "list_models",
    "load_model",
    "load_packed",
    "load_qonnx",
    "pack",
    "predict",
]

_HOMES = {
    "count_ops": "bcdzoo.ops.count",
    "create_model": "bcdzoo.registry",
    "evaluate": "bcdzoo.evaluation.loop",
    "list_models": "bcdzoo.registry",
    "load_model": "bcdzoo.weights.load",
    "load_packed": "bcdzoo.packed.checkpoint",
    "load_qonnx": "bcdzoo.interchange.importing",
    "pack": "bcdzoo.packed.pack",
    "predict": "bcdzoo.evaluation.predict",
}


if not TYPE_CHECKING:  # else mypy would accept any name

    def __getattr__(name: str) -> Any:
        # Looked up on first use, so that `bcdzoo --help` and `bcdzoo list` never import torch.
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
