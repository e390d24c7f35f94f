"""Plans and networks in other people's formats."""

SUFFIXES = {"onnx": ".onnx"}
"""The formats, and the endings of their files."""
