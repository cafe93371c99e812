"""The datasets that come with avbench, one module each, written against its public API only."""
