//! Streams and consumers.
