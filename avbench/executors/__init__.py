"""Executors: where jobs run. Engines exchange specifications and run directories, nothing else."""
