"""The subcommands of `fml`, a module each."""
