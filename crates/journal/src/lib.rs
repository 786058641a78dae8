//! Durable order of records.
