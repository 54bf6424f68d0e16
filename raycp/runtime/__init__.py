"""Ray: the only room that imports it.

``local_ray`` connects to a Ray cluster or starts one; ``ray_substrate`` creates, finds and asks members as named actors;
``actors`` are their shells and ``cores`` makes the core that a shell hosts; ``embedded`` is the core of an embedded cluster;
``job_client`` submits a fleet's driver as a Ray job; ``notes`` keeps what a fleet's later leaders need, in files of ``home``
among others.
"""
