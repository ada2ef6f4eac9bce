//! Digest, InstanceName, ErrorCode, Clock: the vocabulary of the grid.
