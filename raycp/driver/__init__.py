"""A fleet seen from outside: built from its file, brought up, changed, upgraded, taken down, submitted as a Ray job."""
