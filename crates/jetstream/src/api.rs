//! What is said on `$JS.API`: subjects, request bodies, replies and errors, as plain values.

mod create;
pub mod error;
mod get;
pub mod publish;
pub mod request;
pub mod response;
pub mod subject;

pub use error::{ApiError, ErrorCode};
pub use subject::Operation;
