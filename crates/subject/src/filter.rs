//! Relations between filters and subjects, decided token by token without building anything.

use crate::name::tokens;

/// Whether `subject` is one of the subjects that `filter` names. Wildcard bytes in `subject` are taken as
/// ordinary names, as the protocol takes a publish to `a.*`.
pub fn matches(filter: &[u8], subject: &[u8]) -> bool {
    let mut subject_tokens = tokens(subject);
    for wanted in tokens(filter) {
        if wanted == b">" {
            return subject_tokens.next().is_some();
        }
        match subject_tokens.next() {
            Some(token) if wanted == b"*" || wanted == token => {}
            _ => return false,
        }
    }
    subject_tokens.next().is_none()
}

/// Whether every subject that `inner` names is named by `outer` too.
pub fn is_subset(inner: &[u8], outer: &[u8]) -> bool {
    let mut inner_tokens = tokens(inner);
    for wanted in tokens(outer) {
        if wanted == b">" {
            return inner_tokens.next().is_some();
        }
        match inner_tokens.next() {
            Some(b">") | None => return false,
            Some(token) if wanted == b"*" || wanted == token => {}
            Some(_) => return false,
        }
    }
    inner_tokens.next().is_none()
}

/// Whether some subject is named by both filters.
pub fn overlaps(left: &[u8], right: &[u8]) -> bool {
    let (mut left_tokens, mut right_tokens) = (tokens(left), tokens(right));
    loop {
        match (left_tokens.next(), right_tokens.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
            (Some(a), Some(b)) if a == b"*" || b == b"*" || a == b => {}
            _ => return false,
        }
    }
}

/// The filter that names exactly the subjects that both filters name; `None` if there are none.
pub fn intersect(left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
    let mut both = Vec::with_capacity(left.len().max(right.len()));
    let mut push = |token: &[u8]| {
        if !both.is_empty() {
            both.push(b'.');
        }
        both.extend_from_slice(token);
    };
    let (mut left_tokens, mut right_tokens) = (tokens(left), tokens(right));
    loop {
        match (left_tokens.next(), right_tokens.next()) {
            (None, None) => return Some(both),
            (Some(b">"), Some(token)) => {
                push(token);
                right_tokens.for_each(push);
                return Some(both);
            }
            (Some(token), Some(b">")) => {
                push(token);
                left_tokens.for_each(push);
                return Some(both);
            }
            (Some(a), Some(b)) if b == b"*" || a == b => push(a),
            (Some(b"*"), Some(b)) => push(b),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All subjects of up to three tokens over a two-letter alphabet: small enough to decide each relation
    /// by looking at every subject.
    fn universe() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = vec![b"a".to_vec(), b"b".to_vec()];
        let mut last = all.clone();
        for _ in 0..2 {
            last = last
                .iter()
                .flat_map(|s| [b"a", b"b"].map(|t| [s.as_slice(), b".", t.as_slice()].concat()))
                .collect();
            all.extend(last.clone());
        }
        all
    }

    fn filter() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*")];
        (prop::collection::vec(token, 0..3), any::<bool>()).prop_filter_map(
            "not empty",
            |(mut parts, tail)| {
                if tail {
                    parts.push(">");
                }
                (!parts.is_empty()).then(|| parts.join(".").into_bytes())
            },
        )
    }

    #[test]
    fn a_wildcard_must_be_a_whole_token() {
        assert!(matches(b"foo*", b"foo*"));
        assert!(!matches(b"foo*", b"foobar"));
        assert!(matches(b"a.*", b"a.*"));
        assert!(!matches(b"a.b", b"a.*"));
        assert!(!matches(b"a.>", b"a"));
        assert!(matches(b">", b"a"));
    }

    proptest! {
        #[test]
        fn relations_agree_with_enumeration(left in filter(), right in filter()) {
            let in_left: Vec<_> = universe().into_iter().filter(|s| matches(&left, s)).collect();
            let in_both = in_left.iter().filter(|s| matches(&right, s)).count();
            // `*.*.>` against a three-token universe still has a witness of three tokens.
            prop_assert_eq!(overlaps(&left, &right), in_both > 0);
            prop_assert_eq!(overlaps(&left, &right), overlaps(&right, &left));
            let common = intersect(&left, &right);
            prop_assert_eq!(common.is_some(), in_both > 0);
            if let Some(common) = common {
                for subject in universe() {
                    let in_each = matches(&left, &subject) && matches(&right, &subject);
                    prop_assert_eq!(matches(&common, &subject), in_each);
                }
            }
            if is_subset(&left, &right) {
                prop_assert_eq!(in_both, in_left.len());
            }
        }

        #[test]
        fn a_literal_is_a_subset_exactly_when_it_matches(filter in filter(), pick in 0usize..14) {
            let subject = &universe()[pick];
            prop_assert_eq!(is_subset(subject, &filter), matches(&filter, subject));
        }
    }
}
