"""What the members of a fleet exchange; leader, shard, worker and observer meet here only.

- ``members``, ``revisions``, ``nodes``: names of actors (role, place, generation), the two revisions of a fleet, Ray's nodes;
- ``plan``: the fleet as the leader sends it to all of them; ``amendments``: changes of its document that need nobody's files;
- ``report``: a member's state as it reports it; ``status``: the fleet's state, which ``status_builder`` makes of all
  reports, and ``verdict`` says in a sentence (``fleet_verdict``);
- ``control``: questions and answers by actor call; ``substrate``: where members live and how they are asked;
- ``frames`` and ``transport``: what shards, workers and the observer send each other over TCP; ``job_query`` is which jobs the
  observer asks for.

Plans, reports, control messages and ``Hello`` carry a protocol version (``raycp.base.protocol_version``).
"""
