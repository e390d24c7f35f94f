"""Plans and networks in other people's formats."""

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "qonnx": ".onnx"}
"""The formats, and the endings of their files."""
