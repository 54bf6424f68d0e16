"""What every member has: core, permit, statistics sent, API clients of the clusters, limits."""
