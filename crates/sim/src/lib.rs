//! The simulator comes with the next commit.
