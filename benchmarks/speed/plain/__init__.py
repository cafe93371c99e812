"""Plain readings of the published procedures, in plain torch and in float32: what avbench is measured against.

They share the drawn weights, rows and ops with avbench, so that both do the same work, and none of its layers.
"""
