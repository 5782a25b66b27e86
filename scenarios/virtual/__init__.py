"""The virtual engine: thousands of peers in one process, under virtual time, their learning computed in batches."""
