"""The figures, one file each; every function returns a matplotlib figure (``bcdzoo plot``, the report)."""
