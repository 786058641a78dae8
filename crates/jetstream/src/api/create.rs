//! What the subject of a request to make a consumer and its body must agree on.

use super::error::{ApiError, ErrorCode};
use super::request::CreateConsumer;
use super::subject::CreateSubject;

impl CreateConsumer {
    /// Compares the body with the subject, and takes the name from the subject. What comes out has a name, unless a name
    /// must be made up.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn agree(mut self, subject: &CreateSubject<'_>, clustered: bool) -> Result<Self, ApiError> {
        if self.stream_name != subject.stream() {
            return Err(ErrorCode::StreamMismatch.into());
        }
        let name = subject.consumer().unwrap_or(&self.config.name);
        if name.contains(['/', '\\']) {
            return Err(ErrorCode::ConsumerNameContainsPathSeparators.into());
        }
        let durable = &self.config.durable_name;
        match *subject {
            CreateSubject::Unnamed { .. } if !durable.is_empty() => {
                return Err(ErrorCode::ConsumerEphemeralWithDurableName.into());
            }
            CreateSubject::Durable { .. } if durable.is_empty() => {
                return Err(ErrorCode::ConsumerDurableNameNotSet.into());
            }
            CreateSubject::Named { consumer, .. } | CreateSubject::Durable { consumer, .. }
                if !durable.is_empty() && durable != consumer =>
            {
                return Err(ErrorCode::ConsumerDurableNameNotMatchSubject.into());
            }
            CreateSubject::Unnamed { .. } => {}
            CreateSubject::Named { consumer, .. } | CreateSubject::Durable { consumer, .. } => {
                consumer.clone_into(&mut self.config.name);
            }
        }
        if let CreateSubject::Named { filter: Some(filter), .. } = *subject {
            if !self.config.filter_subjects.is_empty() {
                return Err(ErrorCode::ConsumerMultipleFiltersNotAllowed.into());
            }
            if self.config.filter_subject != filter {
                return Err(ErrorCode::ConsumerCreateFilterSubjectMismatch.into());
            }
        }
        if self.config.num_replicas > 1 && !clustered {
            return Err(ErrorCode::StreamReplicasNotSupported.into());
        }
        Ok(self)
    }
}
