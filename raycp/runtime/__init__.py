"""Ray: the actors' thin shells, what the leader asks of Ray, a local Ray. The only room that imports ray."""
