"""The command line. ``main`` finds the command and turns its errors into messages (``errors``); each command has a file of its own.

A command's module has ``add_parser(subparsers)`` and ``run(args) -> int`` and is imported only when called, which keeps
``raycp --help`` quick. Exit codes: 0 done, 1 failed, 2 bad input. Commands reach a fleet through its leader (``fleets``) or through
its observer (``observer``); ``output`` prints lists as table, JSON or YAML. ``probe`` and ``rights`` belong to ``check``,
``benchall`` to ``bench``, ``demojobs`` to ``demo``, ``unlock`` to ``leader``.
"""
