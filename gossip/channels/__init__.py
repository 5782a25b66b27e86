"""What peers tell each other beside their models: tables of sums over own samples, passed on from peer to peer."""
