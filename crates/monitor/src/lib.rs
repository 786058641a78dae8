//! Read-only views of a server: the monitoring endpoints, the answers and events of the system account, and metrics.
//!
//! [`respond`](response::respond) turns a path and a query into a whole HTTP response; what it needs to know it asks a
//! [`ServerView`](view::ServerView), which a server implements by handing out plain snapshots. Everything between the
//! two is here and is a pure function: reading the query, sorting, filtering, paging, and writing JSON byte by byte
//! as nats-server does (names, order, omissions, indentation, escapes), because scripts compare it.
//!
//! What is absent: HTTP itself, clocks and locks. Of JetStream only the types of its API are known; [`raftz`] gives the true
//! answer of a server that has no Raft groups.

pub mod accountz;
pub mod accstatz;
pub mod connz;
pub mod expvar;
pub mod gatewayz;
pub mod healthz;
pub mod index;
pub mod ipqueuesz;
pub mod jetstream;
pub mod json;
pub mod jsz;
pub mod leafz;
pub mod metrics;
pub mod query;
pub mod raftz;
pub mod response;
pub mod routez;
pub mod subsz;
pub mod system;
pub mod text;
pub mod varz;
pub mod view;
