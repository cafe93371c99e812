"""First-party hooks, each written against the public API alone, as a third party's would be."""
