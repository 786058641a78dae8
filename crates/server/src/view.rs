//! What monitoring shows of this server.
