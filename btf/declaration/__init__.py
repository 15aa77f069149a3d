"""What a type's declaration says, and how it lies in memory: two fingerprints, and C's spelling."""
