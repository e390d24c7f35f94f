"""How much a download may bring."""

LARGEST = 8 << 30  # bytes of a file of unknown size
UNPACKED = 100  # largest ratio of unpacked to compressed size; weights hardly compress
