"""``python -m swarmstate`` is the ``swarmstate`` command."""

from swarmstate.cli import main

if __name__ == "__main__":
    main()
