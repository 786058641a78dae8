//! Monitoring over HTTP and HTTPS.

use std::sync::Arc;

use crate::inner::Inner;
use crate::server::StartError;

/// Requests by endpoint.
#[derive(Default)]
pub(crate) struct RequestCounts;

/// Starts the listeners that the options ask for.
pub(crate) async fn start(inner: &Arc<Inner>) -> Result<(), StartError> {
    let _ = inner;
    Ok(())
}
