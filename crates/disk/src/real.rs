//! The host.

/// A folder of the host.
#[derive(Debug)]
pub struct Real;
