"""Real nodes on several machines: a program on each starts them and tells of them; to the engine it is one machine."""
