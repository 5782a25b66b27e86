"""Bristle: merging that judges each received output layer class by class, on the receiver's own samples."""
