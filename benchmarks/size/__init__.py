"""Code size, ours beside the compiler's and K2's: `make bench-size`."""
