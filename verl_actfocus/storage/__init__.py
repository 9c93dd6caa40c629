"""Folders of results on disk: written whole or not at all, used by one command at a time, of one set of settings."""
