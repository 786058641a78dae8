//! Rules for names and subjects that streams and consumers share.

/// The longest name, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The longest description, bytes.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;
/// The most metadata, keys and values together, bytes.
pub(crate) const METADATA_BYTES_MAX: usize = 128 * 1024;

/// Whether a stream or consumer may be called so.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', '\t', '\r', '\n', '\x0c', '.', '*', '>', '\\', '/'])
}

/// Whether this is a subject, with or without wildcards. A form feed is a blank here, though not on the wire.
pub(crate) fn is_subject(subject: &str) -> bool {
    sonata_subject::classify(subject.as_bytes()).is_ok() && !subject.contains('\x0c')
}

/// Whether this is a subject without wildcards.
pub(crate) fn is_literal_subject(subject: &str) -> bool {
    is_subject(subject) && !sonata_subject::has_wildcard(subject.as_bytes())
}

/// Whether some subject is named by both filters.
pub(crate) fn overlap(left: &str, right: &str) -> bool {
    left == right || sonata_subject::overlaps(left.as_bytes(), right.as_bytes())
}

/// Whether every subject that `inner` names is named by `outer` too.
pub(crate) fn is_subset(inner: &str, outer: &str) -> bool {
    sonata_subject::is_subset(inner.as_bytes(), outer.as_bytes())
}

/// The size of metadata, bytes.
pub(crate) fn metadata_bytes(metadata: &super::Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum()
}
