"""A fleet seen from outside, by the command line and by tests.

``fleet_builder`` makes a fleet of its file and the controllers' modules; ``fleet_client`` brings it up, asks it, changes it and
takes it down; ``upgrade`` hands it to a standby fleet; ``removal`` removes what it leaves in the clusters;
``flight_recordings`` merges what its processes recorded; ``jobs`` submits the driver as a Ray job; ``tested_fleet`` and
``in_process`` are fleets for tests, on a local Ray and without Ray.
"""
