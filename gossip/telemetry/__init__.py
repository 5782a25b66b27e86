"""What a peer counts and records about itself."""
