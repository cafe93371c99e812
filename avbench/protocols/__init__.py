"""Evaluation protocols, each versioned."""
