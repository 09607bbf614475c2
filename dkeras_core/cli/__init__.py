"""The command `dkeras`: thin typer functions over the other rooms."""
