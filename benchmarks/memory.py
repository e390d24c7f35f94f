"""What a process grows by when it loads a network and runs one image, on one thread.

    python -m benchmarks.memory

Packed networks from their plan files, in torch's process; real-valued ones in float32 and int8 in ONNX Runtime, if that
is installed (``pip install 'bcdzoo[onnxruntime]'``). Weights are random. Each is a process of its own, which has
imported everything before.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import bcdzoo
from bcdzoo.bench.backends import plan_for, scaled_weights
from bcdzoo.plan.file import write_plan
from bcdzoo.text_table import Column, table

PACKED = ("bcdnet-a", "reactnet-a", "birealnet-18", "quicknet")
REAL = ("resnet-18", "mobilenet-v2")
SHAPE = (3, 224, 224)

GROWTH = """
import sys
import numpy as np

def mib(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) / 1024

path = sys.argv[1]
image = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
if path.endswith(".bcz"):
    import torch
    from bcdzoo.packed import native
    from bcdzoo.packed.checkpoint import load_packed
    torch.set_num_threads(1)
    native.kernels()
else:
    import onnxruntime
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before = mib("VmRSS")
if path.endswith(".bcz"):
    network = load_packed(path)
    network(torch.from_numpy(image))
else:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    network = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    network.run(None, {"images": image})
print(mib("VmHWM") - before, mib("VmRSS") - before)
"""


def write_files(folder: Path) -> None:
    for name in PACKED:
        write_plan(folder / f"{name}.bcz", plan_for(bcdzoo.create_model(name).eval(), SHAPE))
    try:
        import onnx

        from bcdzoo.bench import in_onnxruntime
    except ImportError as error:
        print(f"ONNX Runtime's rows are missing: {error}")
        return
    for name in REAL:
        plan = scaled_weights(plan_for(bcdzoo.create_model(name).eval(), SHAPE))
        for precision in ("float32", "int8"):
            onnx.save(in_onnxruntime.graph(plan, precision), folder / f"{name}-{precision}.onnx")


def main() -> None:
    rows = []
    with TemporaryDirectory(prefix="bcdzoo-") as folder:
        write_files(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            done = subprocess.run([sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True)
            peak, stays = map(float, done.stdout.split())
            rows.append((path.name, f"{path.stat().st_size / 1e6:.1f}", f"{peak:.0f}", f"{stays:.0f}"))
    heads = ("file, MB", "grows by at most, MiB", "stays, MiB")
    print(table((Column("file"), *(Column(head, right=True) for head in heads)), rows, "markdown"))


if __name__ == "__main__":
    main()
