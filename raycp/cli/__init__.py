"""The command line. ``main`` finds the command and turns its errors into messages (``errors``); each command has a file of its own.

A command's module has ``add_parser(subparsers)`` and ``run(args) -> int`` and is imported only when called, which keeps
``raycp --help`` quick. Exit codes: 0 done, 1 failed, 2 bad input. Commands reach a fleet through its leader (``fleets``) or through
its observer (``observer``). What a command shows is a ``Page`` of texts and tables, JSON or YAML (``output``); ``console`` draws
pages, live views and progress; ``printer`` prints, and is the only module that does. ``probe`` and ``rights`` belong to ``check``,
``benchall`` to ``bench``, ``demojobs`` to ``demo``, ``unlock`` to ``leader``.
"""
