"""What a peer does to its model before it is sent: nothing, or a stage such as clipping and noise."""
