"""Using what was learnt: a finished model loaded, evaluated, asked, exported, compared. A lazy front: see `gossip`."""
