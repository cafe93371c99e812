"""Reports: tables made from records alone."""
