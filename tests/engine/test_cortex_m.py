"""A network on a microcontroller in QEMU: the bits of its logits are those of this machine's portable kernels."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bcdzoo.packed.checkpoint import export
from scripts.count_arm import DEMO, IMAGES, demo_images
from tests.engine.test_c_library import ENGINE, run

TOOLS = ("cmake", "g++", "arm-none-eabi-g++", "qemu-system-arm")
EMULATOR = ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting", "-kernel")


def built(folder: Path, plan: Path, images: Path, *options: str) -> Path:
    """The program of engine/mcu."""
    run("cmake", "-S", ENGINE / "mcu", "-B", folder, f"-DPLAN={plan}", f"-DIMAGES={images}", *options)
    run("cmake", "--build", folder, "--parallel", "2")
    return folder / "classify"


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_a_cortex_m4_with_256_kb_of_ram_gives_the_logits_of_this_machine_and_refuses_a_damaged_plan(
    tmp_path: Path,
) -> None:
    plan, images = tmp_path / "net.bcz", tmp_path / "images.bin"
    export(DEMO, plan)
    images.write_bytes(demo_images().tobytes())
    here = run(built(tmp_path / "here", plan, images), "portable").splitlines()
    board = built(tmp_path / "board", plan, images, "-DCMAKE_TOOLCHAIN_FILE=cortex-m.cmake")
    *there, memory = run(*EMULATOR, board).splitlines()
    assert len(set(here)) == IMAGES
    assert there == here
    assert memory.startswith("RAM: data ")

    content = bytearray(plan.read_bytes())
    content[-1] ^= 1
    plan.write_bytes(content)
    board = built(tmp_path / "board", plan, images)
    done = subprocess.run((*EMULATOR, board), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "does not match its hash" in done.stdout.splitlines()[0]
