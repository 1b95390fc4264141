"""The command line of convsync."""
