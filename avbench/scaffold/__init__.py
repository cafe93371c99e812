"""New plugin packages from templates: what ``avbench new`` writes. Importing it imports no torch."""
