"""Memories on disk: a stream at one moment as safetensors and JSON, to go on with in another process."""
