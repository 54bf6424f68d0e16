"""The leader: what should live, who is dead, promotion, hand-over, placement of members, the hub's records. In this order:

- the plan: ``plans`` makes it from fleet documents (``application``: of ``apply``), ``operator_orders`` are what people order of
  the running fleet, ``plan_store`` holds it, ``publisher`` adds what members reported, ``endpoints`` the clusters' connections,
  ``fleet_condition`` keeps the fleet's condition in the hub, ``history`` the switches, with what the dead recorded last
  (``tails``);
- members: ``desired`` says which ones a fleet needs, ``roster`` holds what is known of each, and alone changes it; ``lifecycle``
  creates and ends them, ``supervision`` keeps in touch with each, ``reports`` handles what they send, ``member_controller``
  compares the living with the wanted ones, ``shutdown`` ends all; ``pools`` and ``scaler`` size the worker pools, ``quarantines``
  says which shards have a worker for suspects;
- deaths: ``deaths`` and ``fence`` find them, ``crash_loops`` shows those that repeat, ``promotion`` makes the next term,
  ``recovery`` finds a living fleet after a restart, ``revival`` brings back one that died as a whole, from what ``plan_memory``
  kept of it;
- nodes: ``nodes`` watches them, ``placement`` chooses one, ``evacuation`` leaves those that drain;
- hand-over: ``handover`` of shards, ``fleet_handover`` of the fleet to its standby; there ``standby_role``, ``standby_fleet``,
  ``active_fleet`` and ``takeover``; ``retirement`` ends the old revision;
- the clusters' APIs: ``hub`` joins ``hub_lock`` (and ``leadership_proof``), ``fleet_record``, ``mark_keys`` and ``crds`` (and
  ``crd_installer``); ``cluster_clients`` and ``retries`` serve all of them;
- ``leader_loop`` takes the steps, ``status_sender`` sends the status to the observer after each, ``core`` puts all of this
  together and answers questions.
"""
