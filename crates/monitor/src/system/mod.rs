//! What a server says in its system account: answers to requests, and events.
//!
//! The same views as over HTTP, asked with JSON instead of a query and answered in an envelope that says which server
//! speaks. Everything here is a pure function from a view and the bytes of a request to the bytes of an answer; who asked,
//! on which subject, and what happens to the answer is the server's matter.

pub mod body;
pub mod event;
pub mod filter;
mod options;
pub mod reply;
pub mod request;
pub mod server_info;
pub mod statsz;
pub mod user_info;
