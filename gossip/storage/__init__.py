"""What a peer keeps on disk: checkpoints, the finished model, the records of its run."""
