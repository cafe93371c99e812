"""The three kinds of task as a worker does them: build a prerequisite, distil cells, evaluate a set."""
