"""Streaming beside native inference: pairs, curves and limits, as one report that makes itself anew."""
