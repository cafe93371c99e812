"""The kinds of task as a worker does them: build a prerequisite, distil cells or shards, merge shards, evaluate."""
