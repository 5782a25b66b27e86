"""`python -m gossip` is `gossip-node`."""

from gossip.cli import main

if __name__ == "__main__":
    main()
