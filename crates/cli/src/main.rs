//! The binary comes with the next commit.
fn main() {}
