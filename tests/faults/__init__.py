"""The fault campaign: see docs/faults.md."""
