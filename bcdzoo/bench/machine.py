"""What a measured time is true of: the processor, what it can do, and what else it was doing."""

import os
import platform
from pathlib import Path
from typing import Any

from bcdzoo.packed import native

_CPUINFO = Path("/proc/cpuinfo")

# Those that decide how many products a second there are: of floats, bfloat16, 8-bit integers and bits.
_DECISIVE = {
    *("avx2", "fma", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_vpopcntdq"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
}
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that keep torch's libraries from some instructions; the engine's own is in ``kernels``."""


def machine() -> dict[str, Any]:
    """The machine, as a benchmark states it: ``processor``, ``instructions``, ``cores``, ``kernels``, ``limits``.

    Two benchmarks with equal machines can be compared, and no others.
    """
    facts = _facts()
    return {
        "processor": processor(facts),
        "instructions": sorted(_DECISIVE & {*facts.get("flags", facts.get("Features", "")).split()}),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "kernels": "none" if native.missing() else native.chosen(),
        "limits": {name: os.environ[name] for name in _LIMITS if name in os.environ},
    }


def processor(facts: dict[str, str]) -> str:
    """The processor's name, with the numbers that tell it from others sold under the same one."""
    name = facts.get("model name") or platform.processor() or platform.machine() or "unknown"
    numbers = [f"{key.removeprefix('cpu ')} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return name + (f" ({', '.join(numbers)})" if numbers else "")


def load() -> float:
    """Processes that wanted to run, the mean of the last minute: with more than there are cores, times are too long."""
    return os.getloadavg()[0]


def described(found: dict[str, Any]) -> str:
    """A machine in a line."""
    parts = [found["processor"], f"{found['cores']} core{'s' * (found['cores'] != 1)}", " ".join(found["instructions"])]
    parts += [f"kernels {found['kernels']}"] + [f"{name}={value}" for name, value in found["limits"].items()]
    return ", ".join(filter(None, parts))


def _facts() -> dict[str, str]:
    """The first processor's lines of Linux's own description; nothing elsewhere."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}
