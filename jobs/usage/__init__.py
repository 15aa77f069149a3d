"""How the command line is used: its parser, the long texts, completion, the standard streams."""
