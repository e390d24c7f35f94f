"""Accuracy: the evaluation loop, statistics and the results store."""
