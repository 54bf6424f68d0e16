"""What should live, who is dead, promotion, hand-over, placement of members, the hub's records."""
