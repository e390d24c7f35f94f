from typing import Any

import numpy as np
import numpy.typing as npt

def instruction_sets() -> list[str]: ...
def peak(words: int, threads: int, instructions: str) -> float: ...

class Chain:
    def __init__(
        self, units: list[dict[str, Any]], stem: dict[str, Any] | None, ending: dict[str, Any] | None
    ) -> None: ...
    def output(self, height: int, width: int) -> tuple[int, int, int]: ...
    def run(
        self,
        x: npt.NDArray[np.float32],
        out: npt.NDArray[np.float32],
        *,
        shortcut: npt.NDArray[np.float32] | None,
        threshold: npt.NDArray[np.float32] | None,
        gate: npt.NDArray[np.float32] | None,
        offset: npt.NDArray[np.float32] | None,
        threads: int,
        instructions: str,
        nanoseconds: npt.NDArray[np.int64] | None,
    ) -> None: ...
