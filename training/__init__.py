"""Training of stream-vl-tiny, from nothing, on the toy world."""
