"""Run binary neural networks on a CPU: ``load("net.bcz")(images)``, with numpy alone."""

from bcdzoo_engine.errors import EngineError
from bcdzoo_engine.network import Network, instruction_sets, load

__all__ = ["EngineError", "Network", "instruction_sets", "load"]
