"""What is learnt: the loss, the targets that it takes, and the score by which models are told apart."""
