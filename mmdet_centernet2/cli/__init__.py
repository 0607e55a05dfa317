"""What the command line tools in ``tools/`` call."""
