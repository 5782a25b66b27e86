"""How a gradient becomes a step: one local update a file, each a stage with what a peer remembers of it."""
