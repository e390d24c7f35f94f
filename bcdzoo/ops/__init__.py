"""Counting operations."""
