"""The test kit for users: a pytest plugin (``plugin``) whose fixtures start embedded clusters in the test's own process.

- ``embedded_cluster``: one cluster, fresh for each test; ``embedded_fleet(n)``: several;
- ``virtual_clock``: a test that uses it has clusters on that clock, and time that only the test advances;
- ``assert_converges``: waits for a condition, in real or in virtual time;
- ``fleet_running``: raycp itself over these clusters.

``clusters`` runs clusters in a thread of their own, so that blocking clients can be used; ``contract`` replays requests and
compares the answers with expected ones, on embedded clusters and on real ones.

With ``pytest --kubeconfig FILE`` the same tests run on a real cluster; those that need faults, virtual time or more than one
cluster are skipped there.
"""

from raycp.testkit.clusters import ClusterHandle, EmbeddedHost, RealCluster, SharedClock

__all__ = ["ClusterHandle", "EmbeddedHost", "RealCluster", "SharedClock"]
