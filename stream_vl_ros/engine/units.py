"""Units of time and memory."""

NANOSECONDS = 1_000_000_000  # in a second
MIB = 2**20  # bytes
