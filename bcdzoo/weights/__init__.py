"""Checkpoints: the manifest, downloads, conversion and loading."""
