"""``python -m kkt_bridge``: the same program as the ``kkt-bridge`` command."""

from kkt_bridge.cli.main import main

if __name__ == "__main__":
    main()
