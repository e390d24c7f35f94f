"""Accuracy: the loop, its statistics and the store of results."""
