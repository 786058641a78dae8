//! Who would get a message and may not: those whose subscription matches, and whose permissions are against the subject.
//! Routes leave them out; only a message that is traced asks for them.

use std::sync::Arc;

use sonata_subject::matches;

use crate::account::Account;
use crate::interest::Matches;
use crate::links::StreamImport;
use crate::subscription::Subscription;

/// See the module.
pub(crate) struct Denied {
    pub(crate) subscription: Arc<Subscription>,
    /// How it would have heard of another account's message, and what that is called there.
    pub(crate) import: Option<(Arc<StreamImport>, Box<[u8]>)>,
}

/// All of them in an account, and in those that import from it.
pub(crate) fn denied(account: &Account, subject: &[u8]) -> Vec<Denied> {
    let mut found = Matches::default();
    account.interest.collect(subject, &mut found);
    found.plain.into_iter().chain(found.queued).filter_map(|found| Denied::of(found, subject)).collect()
}

impl Denied {
    fn of(found: Arc<Subscription>, subject: &[u8]) -> Option<Self> {
        let Some(shadow) = found.as_shadow() else {
            return (!found.may_receive(subject)).then_some(Self { subscription: found, import: None });
        };
        let local = shadow.import.subjects.local_name(subject)?;
        let parent = &shadow.parent;
        let is_denied = matches(parent.subject(), &local) && !parent.may_receive(&local);
        is_denied.then(|| Self {
            subscription: parent.clone(),
            import: Some((shadow.import.clone(), local.into_boxed_slice())),
        })
    }
}
