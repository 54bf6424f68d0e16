"""The removal of a fleet, or of one of its controllers, from the clusters: what ``raycp uninstall`` does.

- ``findings``: what raycp has left in the clusters, as values;
- ``survey``: reads it from the clusters, and whether the fleet runs;
- ``removals``: what of it goes, per cluster, and why the rest stays. Pure;
- ``execution``: carries one cluster's removal out.
"""
