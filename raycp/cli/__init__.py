"""The command line: ``main`` finds the command and turns errors into messages; each command has a file of its own.

A command's module has ``add_parser(subparsers)`` and ``run(args) -> int`` and is imported only when called, so that
``raycp --help`` is quick. Exit codes: 0 done, 1 failed, 2 bad input. ``output`` prints lists as table, JSON or YAML.
"""
