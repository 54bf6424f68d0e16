"""Ray: the only room that imports it.

``local_ray`` connects to a Ray cluster or starts one; ``ray_substrate`` creates, finds and asks members as named actors;
``actors`` are their shells and ``cores`` makes the core that a shell hosts; ``embedded`` is the core of an embedded cluster;
``job_client`` submits a fleet's driver as a Ray job; ``fleet_home`` says where a fleet keeps files on a node; ``notes`` keeps what
its later leaders need, there and elsewhere.
"""
