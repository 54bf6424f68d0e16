"""The fleet's HTTP server: metrics, health, readiness, JSON API and status page.

In the order of the data's path:

- ``sources``: members connect and report every second; metrics go to ``raycp.metrics.Merger``, service levels to
  ``raycp.slo.SloBook``. ``dead_processes`` drops what no living process can send again; ``timelines`` asks shards back;
- ``status_feed``: the status that the leader sends; ``status_overlay`` puts newer reports of the members over it;
- ``fleet_view``: all of this as ``view.View``, its lists made by ``tables`` and ``activity`` (what was done lately);
  ``attention`` is what is wrong, row by row, ``job_pages`` what the hub's shard says of its jobs;
- ``chronicle`` remembers: an hour of numbers (``history``, measured by ``activity``), and what has changed: ``facts`` of the state,
  ``changes`` between two of them, the newest in ``change_feed``;
- ``web``: the routes over a ``View`` (``answers``: their headers), ``status_page`` puts ``status.html`` and the scripts of ``page``
  together, ``known_hosts`` are the names that it answers to, ``access`` says who may read and write; ``http_server`` keeps them on
  the fleet's port;
- ``action_routes``: the console's actions, which ``actions`` turns into orders to the leader, and ``audit`` keeps;
- ``hub_checkpoint``: the service levels and the chronicle in the hub, so that the observer's replacement goes on with them;
- ``core``: puts these together.
"""
