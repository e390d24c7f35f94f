"""Checkpoints: known, fetched, converted, loaded."""
