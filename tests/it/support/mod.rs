//! What tests share: a real Postgres, the real program, and small helpers.

pub mod cluster;
pub mod disk;
pub mod group;
pub mod program;
pub mod random;
