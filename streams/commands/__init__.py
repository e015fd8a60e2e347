"""The command line: `python -m streams.commands` is `kindred`."""
