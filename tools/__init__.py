"""Scripts that only developers of the package run; they are not installed."""
