"""Measuring the engine against transformers itself."""
