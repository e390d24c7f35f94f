"""Run binary neural networks on a CPU: ``load("net.bcz")(images)``, with numpy alone."""

from bcdzoo_engine.network import EngineError, Network, instruction_sets, load

__all__ = ["EngineError", "Network", "instruction_sets", "load"]
