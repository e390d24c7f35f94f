"""ONNX graphs, which are fetched only."""

from bcdzoo.weights.keys.family import Family

FAMILY = Family()
