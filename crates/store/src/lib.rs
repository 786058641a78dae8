//! The messages of one stream.
