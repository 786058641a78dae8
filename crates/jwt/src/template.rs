//! Templates in the permissions of scoped signing keys: `{{name()}}` and the like become what the user's token says.
//!
//! A tag may have several values, so one template may become several subjects: the product of all its tags. Where a tag
//! has no value the subject goes away; in a deny list that would be leave for something that was meant to be denied, so
//! there it refuses the user.

use std::fmt;

use crate::account::Account;
use crate::claims::Claims;
use crate::permission::{Permission, Permissions};
use crate::user::User;

/// Subjects that one list of templates becomes at most.
pub const SUBJECTS_MAX: usize = 4096;

/// Bytes that they have together at most. A long value times many tags would be many megabytes for each connection.
pub const SUBJECT_BYTES_MAX: usize = 1024 * 1024;

/// Why a user cannot be given what the templates say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// No such function: the template and the function.
    Function(String, String),
    /// A subject to be denied names a tag that the user does not have.
    Undefined(String, String),
    /// A subject to be denied is none once it is filled in.
    Invalid,
    /// More than [`SUBJECTS_MAX`] subjects, or [`SUBJECT_BYTES_MAX`] bytes of them.
    TooMany,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(text, name) => {
                write!(f, "template operation in {text:?}: {name:?} is not defined")
            }
            Self::Undefined(text, tag) => {
                write!(f, "generated invalid subject {text:?}: {tag:?} is not defined")
            }
            Self::Invalid => f.write_str("generated invalid subject"),
            Self::TooMany => write!(f, "template expansion exceeds limit: {SUBJECTS_MAX}"),
        }
    }
}

impl std::error::Error for TemplateError {}

/// Fills in the templates for a user of an account.
///
/// # Errors
/// See [`TemplateError`]; the user must be refused.
pub fn expand(
    template: &Permissions,
    user: &Claims<User>,
    account: &Claims<Account>,
) -> Result<Permissions, TemplateError> {
    let about = About { user, account };
    Ok(Permissions {
        publish: about.permission(&template.publish)?,
        subscribe: about.permission(&template.subscribe)?,
        responses: template.responses,
    })
}

struct About<'a> {
    user: &'a Claims<User>,
    account: &'a Claims<Account>,
}

/// Which list a template stands in.
#[derive(Clone, Copy, PartialEq)]
enum List {
    Allow,
    Deny,
}

/// A template taken apart.
struct Pieces<'a> {
    /// In order: a text, or the index of the values that one is taken of.
    order: Vec<Piece<'a>>,
    /// By what stands between the braces. The same function twice has the same value in both places.
    values: Vec<(&'a str, Vec<&'a str>)>,
}

enum Piece<'a> {
    Text(&'a str),
    Function(usize),
}

impl<'a> About<'a> {
    fn permission(&self, template: &Permission) -> Result<Permission, TemplateError> {
        let allow = self.list(&template.allow, List::Allow)?;
        let mut deny = self.list(&template.deny, List::Deny)?;
        if allow.is_empty() && !template.allow.is_empty() {
            // An empty list would allow everything.
            deny.push(">".into());
        }
        Ok(Permission { allow, deny })
    }

    fn list(&self, templates: &[String], list: List) -> Result<Vec<String>, TemplateError> {
        if !templates.iter().any(|text| next_function(text).is_some()) {
            return Ok(templates.to_vec());
        }
        let mut subjects = Vec::new();
        let mut bytes = 0;
        for text in templates {
            let Some(pieces) = self.pieces(text, list)? else { continue };
            Self::product(&pieces, list, &mut subjects, &mut bytes)?;
        }
        Ok(subjects)
    }

    /// None: a tag without value, whose subject goes away.
    fn pieces<'t>(&self, text: &'t str, list: List) -> Result<Option<Pieces<'t>>, TemplateError>
    where
        'a: 't,
    {
        let mut pieces = Pieces { order: Vec::new(), values: Vec::new() };
        let mut rest = text;
        while let Some((before, function, after)) = next_function(rest) {
            pieces.order.push(Piece::Text(before));
            let known = pieces.values.iter().position(|(name, _)| *name == function);
            pieces.order.push(Piece::Function(known.unwrap_or(pieces.values.len())));
            if known.is_none() {
                let values = self.values(text, function.trim())?;
                if values.is_empty() && list == List::Deny {
                    return Err(TemplateError::Undefined(text.into(), function.trim().into()));
                }
                pieces.values.push((function, values));
            }
            rest = after;
        }
        pieces.order.push(Piece::Text(rest));
        Ok(Some(pieces).filter(|pieces| pieces.values.iter().all(|(_, values)| !values.is_empty())))
    }

    fn values(&self, text: &str, function: &str) -> Result<Vec<&'a str>, TemplateError> {
        let (user, account) = (self.user, self.account);
        let single = match function.to_ascii_lowercase().as_str() {
            "name()" => Some(&user.data.name),
            "subject()" => Some(&user.data.subject),
            "account-name()" => Some(&account.data.name),
            "account-subject()" => Some(&user.nats.issuer_account),
            _ => None,
        };
        if let Some(value) = single {
            return Ok(vec![value]);
        }
        let (tags, tag) = if let Some(tag) = argument(function, "tag(") {
            (&user.nats.meta.tags, tag)
        } else if let Some(tag) = argument(function, "account-tag(") {
            (&account.nats.meta.tags, tag)
        } else {
            return Err(TemplateError::Function(text.into(), function.into()));
        };
        let prefix = format!("{}:", tag.to_lowercase());
        Ok(tags.iter().filter_map(|tag| tag.strip_prefix(&prefix)).collect())
    }

    fn product(
        pieces: &Pieces<'_>,
        list: List,
        subjects: &mut Vec<String>,
        bytes: &mut usize,
    ) -> Result<(), TemplateError> {
        let mut values = pieces.values.iter().map(|(_, values)| values.len());
        let count = values.try_fold(1_usize, |count, values| count.checked_mul(values));
        let room = SUBJECTS_MAX.saturating_sub(subjects.len());
        let count = count.filter(|count| *count <= room).ok_or(TemplateError::TooMany)?;
        for number in 0..count {
            let subject = pieces.fill(number);
            *bytes += subject.len();
            if *bytes > SUBJECT_BYTES_MAX {
                return Err(TemplateError::TooMany);
            }
            match sonata_subject::classify(subject.as_bytes()) {
                Ok(_) => subjects.push(subject),
                Err(_) if list == List::Allow => {}
                Err(_) => return Err(TemplateError::Invalid),
            }
        }
        Ok(())
    }
}

impl Pieces<'_> {
    /// The `number`-th of all combinations; the last values change fastest.
    fn fill(&self, mut number: usize) -> String {
        let mut chosen = vec![""; self.values.len()];
        for (chosen, (_, values)) in chosen.iter_mut().zip(&self.values).rev() {
            *chosen = values[number % values.len()];
            number /= values.len();
        }
        let text = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => (*text).to_owned(),
            Piece::Function(index) => chosen[*index].to_owned(),
        };
        self.order.iter().map(text).collect()
    }
}

/// The first `{{…}}`: what is before, in and behind it.
fn next_function(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find("{{")?;
        let inner = &text[start + 2..];
        let length = inner.find('}')?;
        if length > 0 && inner[length..].starts_with("}}") {
            return Some((&text[..start], &inner[..length], &inner[length + 2..]));
        }
        from = start + 2 + length;
    }
}

fn argument<'t>(function: &'t str, name: &str) -> Option<&'t str> {
    let head = function.get(..name.len())?;
    head.eq_ignore_ascii_case(name).then(|| function[name.len()..].strip_suffix(')'))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(tags: &[&str]) -> Claims<User> {
        let mut user = Claims::<User>::about("UKEY");
        user.data.name = "joe".into();
        user.nats.issuer_account = "AKEY".into();
        user.nats.meta.tags = tags.iter().map(|tag| (*tag).into()).collect();
        user
    }

    fn account(tags: &[&str]) -> Claims<Account> {
        let mut account = Claims::<Account>::about("AKEY");
        account.data.name = "acme".into();
        account.nats.meta.tags = tags.iter().map(|tag| (*tag).into()).collect();
        account
    }

    fn filled(allow: &[&str], deny: &[&str]) -> Result<(Vec<String>, Vec<String>), TemplateError> {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let template = Permissions {
            publish: Permission { allow: list(allow), deny: list(deny) },
            ..Permissions::default()
        };
        let user = user(&["dept:a", "dept:b", "site:x", "odd:b c"]);
        let expanded = expand(&template, &user, &account(&["region:eu"]))?;
        Ok((expanded.publish.allow, expanded.publish.deny))
    }

    #[test]
    fn functions_become_what_the_token_says() {
        let cases: &[(&str, &[&str])] = &[
            ("plain", &["plain"]),
            ("u.{{name()}}.{{ subject() }}", &["u.joe.UKEY"]),
            ("{{account-name()}}.{{ACCOUNT-SUBJECT()}}", &["acme.AKEY"]),
            ("{{tag(dept)}}.x", &["a.x", "b.x"]),
            ("{{tag(Dept)}}.{{tag(dept)}}", &["a.a", "a.b", "b.a", "b.b"]),
            ("{{tag(dept)}}.{{tag(dept)}}", &["a.a", "b.b"]),
            ("{{account-tag(region)}}.{{tag(site)}}", &["eu.x"]),
            ("{{}}.a", &["{{}}.a"]),
            ("a.{{name()", &["a.{{name()"]),
        ];
        for (template, subjects) in cases {
            assert_eq!(filled(&[template], &[]).unwrap().0, *subjects, "{template}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_not_allowed_and_must_not_be_denied() {
        assert_eq!(filled(&["a", "{{tag(none)}}"], &[]).unwrap(), (vec!["a".into()], vec![]));
        assert_eq!(filled(&["{{tag(none)}}"], &["b"]).unwrap(), (vec![], vec!["b".into(), ">".into()]));
        assert_eq!(filled(&["{{tag(odd)}}"], &[]).unwrap(), (vec![], vec![">".into()]));
        assert!(matches!(filled(&[], &["{{tag(none)}}"]), Err(TemplateError::Undefined(..))));
        assert_eq!(filled(&[], &["{{tag(odd)}}"]), Err(TemplateError::Invalid));
        assert!(matches!(filled(&["{{nothing()}}"], &[]), Err(TemplateError::Function(..))));
    }

    #[test]
    fn the_product_is_bounded() {
        let tags: Vec<String> = (0..64).map(|number| format!("t:{number}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let (user, account) = (user(&tags), account(&[]));
        let mut template = Permissions::default();
        let mut ask = |allow: &[&str]| {
            template.subscribe.allow = allow.iter().map(|text| (*text).into()).collect();
            expand(&template, &user, &account).map(|filled| filled.subscribe.allow.len())
        };
        assert_eq!(ask(&["{{tag(t)}}.{{tag(T)}}"]), Ok(4096));
        assert_eq!(ask(&["{{tag(t)}}.{{tag(T)}}", "{{name()}}"]), Err(TemplateError::TooMany));
        let different: String =
            (0..100).map(|blanks| format!("{{{{{}tag(t)}}}}", " ".repeat(blanks))).collect();
        assert_eq!(ask(&[&different]), Err(TemplateError::TooMany));
    }
}
