"""The native 1-bit engine: networks on XNOR and popcount."""
