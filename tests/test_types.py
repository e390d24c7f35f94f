"""What mypy knows of this package in a file of somebody who has installed it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bcdzoo

FILE = """
import bcdzoo

model = bcdzoo.create_model("bcdnet-a", num_classes=1000)
reveal_type(model)
reveal_type(bcdzoo.list_models("bcdnet*"))
reveal_type(bcdzoo.load_model("bcdnet-a"))
reveal_type(bcdzoo.pack(model))
reveal_type(bcdzoo.load_packed("net.bcz"))
reveal_type(bcdzoo.count_ops(model))
result = bcdzoo.evaluate(model, "imagenet", batch_size=64)
reveal_type(result)
reveal_type((result.top1, result.n, result.ci95, result.predictions))
reveal_type(bcdzoo.predict(model, "photo.jpg"))
reveal_type(bcdzoo.load_qonnx("net.onnx"))
bcdzoo.evaluate(model, "imagenet", batch_size="64")
bcdzoo.evalute(model, "imagenet")
"""

SAID = """\
5: note: Revealed type is "torch.nn.modules.module.Module"
6: note: Revealed type is "list[str]"
7: note: Revealed type is "torch.nn.modules.module.Module"
8: note: Revealed type is "bcdzoo.packed.pack.PackedNetwork"
9: note: Revealed type is "bcdzoo.packed.pack.PlanNetwork"
10: note: Revealed type is "bcdzoo.ops.count.OpsReport"
12: note: Revealed type is "bcdzoo.evaluation.result.EvalResult"
13: note: Revealed type is "tuple[float, int, dict[str, list[float]], pandas.core.frame.DataFrame]"
14: note: Revealed type is "list[bcdzoo.evaluation.predict.Prediction]"
15: note: Revealed type is "torch.nn.modules.module.Module"
16: error: Argument "batch_size" to "evaluate" has incompatible type "str"; expected "int"  [arg-type]
17: error: Module has no attribute "evalute"; maybe "evaluate"?  [attr-defined]
"""


def test_a_user_of_the_public_functions_gets_their_types(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "user.py").write_text(FILE)
    kept = pytestconfig.cache.mkdir("mypy")  # with torch's types, which take it long
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(kept), "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.replace("user.py:", "") == SAID
    used = {node.attr for node in ast.walk(ast.parse(FILE)) if isinstance(node, ast.Attribute)}
    assert set(bcdzoo.__all__) <= used
