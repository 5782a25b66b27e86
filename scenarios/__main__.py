"""`python -m scenarios` is `gossip-scenario`."""

from scenarios.cli import main

if __name__ == "__main__":
    main()
