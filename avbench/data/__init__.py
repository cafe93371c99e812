"""The dataset store, the samples read from it, and the transforms that fill it."""
