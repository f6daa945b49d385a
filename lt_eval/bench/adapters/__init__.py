"""Generators of others, driven from outside: a command with files or a pipe, an HTTP endpoint that streams."""
