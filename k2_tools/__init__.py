"""The `k2` command: a file per subcommand, and the HTML report."""
