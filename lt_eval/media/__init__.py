"""Decoding, resampling and encoding of clips."""
