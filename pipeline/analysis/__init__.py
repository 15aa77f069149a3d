"""Questions to what was committed: SQL, find, explain, layers."""
