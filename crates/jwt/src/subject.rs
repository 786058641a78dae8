//! Subjects within claims. The official tools check them more loosely than servers do, and so do we here: a token that
//! they made must not be refused.

use crate::validation::Issues;

/// The checks that every subject in claims must pass.
pub(crate) fn check(subject: &str, issues: &mut Issues) {
    if subject.is_empty() {
        return issues.error("subject cannot be empty");
    }
    if subject.contains(' ') {
        issues.error(format!("subject {subject:?} cannot have spaces"));
    }
    if subject.starts_with('.') || subject.ends_with('.') {
        issues.error(format!("subject {subject:?} cannot start or end with a `.`"));
    }
    if subject.contains("..") {
        issues.error(format!("subject {subject:?} cannot contain consecutive `.`"));
    }
}

/// Checks the name that an imported subject gets: `$n` stands for the n-th wildcard of `from`.
pub(crate) fn check_renaming(renamed: &str, from: &str, issues: &mut Issues) {
    check(renamed, issues);
    if from.is_empty() {
        issues.error("subject cannot be empty");
    }
    let ends_open = |subject: &str| subject == ">" || subject.ends_with(".>");
    if ends_open(renamed) != ends_open(from) {
        issues.error("both, renaming subject and subject, need to end or not end in >");
    }
    let wildcards = from.split('.').filter(|token| *token == "*").count();
    let mut references = 0;
    for token in renamed.split('.') {
        match reference(token) {
            _ if token == "*" => references += 1,
            Some(number) if number > wildcards as u64 => issues.error(format!(
                "Reference ${number} in {renamed:?} reference * in {from:?} that do not exist"
            )),
            Some(_) => references += 1,
            None => {}
        }
    }
    if references != wildcards {
        issues.error("subject does not contain enough * or reference wildcards $[0-9]");
    }
}

/// A renaming with a `*` in place of each reference.
pub(crate) fn renamed_to_filter(renamed: &str) -> String {
    let tokens = renamed.split('.').map(|token| if reference(token).is_some() { "*" } else { token });
    tokens.collect::<Vec<_>>().join(".")
}

fn reference(token: &str) -> Option<u64> {
    token.strip_prefix('$')?.parse().ok()
}

pub(crate) fn has_wildcard(subject: &str) -> bool {
    sonata_subject::has_wildcard(subject.as_bytes())
}

/// Whether everything that `inner` names is named by `outer`.
pub(crate) fn is_contained(inner: &str, outer: &str) -> bool {
    let mut inner = inner.split('.').peekable();
    let mut outer = outer.split('.').peekable();
    loop {
        match (inner.next(), outer.next()) {
            (Some(_), Some(">")) if outer.peek().is_none() => return true,
            (Some(one), Some(other)) if one == other || (other == "*" && one != ">") => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamings_keep_every_wildcard() {
        let good = [("a.*", "b.$1"), ("a.*.c", "x.*.y"), ("a.*.*", "b.$2.$1"), ("a.>", "b.>"), ("a", "b")];
        let bad = [("a.*", "b"), ("a.*", "b.$2"), ("a.>", "b"), ("a", "b.>"), ("", "b"), ("a.*", "b.$1.$1")];
        for (from, renamed) in good {
            let mut issues = Issues::default();
            check_renaming(renamed, from, &mut issues);
            assert!(issues.is_empty(), "{from} {renamed} {issues}");
        }
        for (from, renamed) in bad {
            let mut issues = Issues::default();
            check_renaming(renamed, from, &mut issues);
            assert!(issues.has_errors(), "{from} {renamed}");
        }
        assert_eq!(renamed_to_filter("a.$1.$x.b"), "a.*.$x.b");
    }

    #[test]
    fn containment() {
        for (inner, outer) in [("a.b", "a.b"), ("a.b", "a.*"), ("a.b.c", "a.>"), ("a.*", "*.*"), ("a.>", ">")]
        {
            assert!(is_contained(inner, outer), "{inner} {outer}");
        }
        for (inner, outer) in [("a", "a.>"), ("a.b", "a"), ("a.*", "a.b"), ("a.>", "a.*"), ("a.b.c", "a.*")] {
            assert!(!is_contained(inner, outer), "{inner} {outer}");
        }
    }
}
