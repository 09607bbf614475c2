"""The command ``dkeras``: one file a group of commands, collected lazily by :mod:`dkeras_core.cli.app`."""
