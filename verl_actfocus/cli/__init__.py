"""The command line `actfocus`: one module for each subcommand, `main` finds them."""
