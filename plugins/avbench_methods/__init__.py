"""First-party methods: one file each, written against avbench's public API only."""
