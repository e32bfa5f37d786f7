"""The command line: each file parses, calls and prints for one group of commands, and computes nothing."""
