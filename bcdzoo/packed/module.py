"""What torch may do with a module that the engine runs: copy, pickle and compile around it; not look inside."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError

_INSTEAD = "`bcdzoo export` writes it as a file, and the network that it was packed from is an ordinary module"


class EngineModule(nn.Module):
    """A module that the engine runs, always in evaluation mode, in float32 and on the CPU.

    torch.compile calls it as it is, and compiles what is around it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.training = False

    def forward(self, x: Tensor) -> Any:
        if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
            _refuse()
        return self._called(x)

    @torch.compiler.disable(reason="the engine runs this part: compile what is around it, without fullgraph=True")  # type: ignore[untyped-decorator]
    @torch.inference_mode()
    def _called(self, x: Tensor) -> Any:
        return self.run(x)

    def run(self, x: Tensor) -> Any:
        """What the engine computes of images."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "EngineModule":
        """Stay in evaluation mode, in which alone there is a plan."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # all of to(), half(), double(), cuda() … come here
        try:
            probe = fn(torch.zeros(1))
            fits = probe.dtype == torch.float32 and probe.device.type == "cpu"
        except Exception as error:  # as torch says that a device is missing
            raise BcdzooError(f"a packed network stays on the CPU: {str(error).splitlines()[0]}") from error
        if not fits:
            raise BcdzooError(
                f"a packed network runs in float32 on the CPU, not in {probe.dtype} on {probe.device}: use the network "
                "that it was packed from there"
            )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __prepare_scriptable__(self) -> Any:
        _refuse()


@torch._dynamo.assume_constant_result  # type: ignore[untyped-decorator]  # so that it runs, and raises, while traced
def _refuse() -> None:
    raise BcdzooError(f"torch.export, torch.jit and torch.onnx cannot look into a packed network: {_INSTEAD}")
