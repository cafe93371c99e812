"""Pictures and sound of distilled sets: grids, embeddings, curves, confusion, retrieval, WAV files, and a page."""
