//! Mappings: what is published instead of a subject, in shares if need be.

use std::fmt;

use crate::transform::{Transform, TransformError, validate_mapping};

/// A subject, and what is published instead of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    source: String,
    /// In ascending order of their bounds.
    destinations: Vec<Destination>,
}

/// One of the places where a mapping leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    /// A number below it, and not below those before, picks this one. From the last bound on the message is lost.
    bound: u32,
    /// As it was written.
    text: String,
    transform: Transform,
}

/// Why destinations make no mapping; displayed as the reference does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappingError {
    /// A destination twice.
    Duplicate(String),
    /// A weight above 100.
    Weight,
    /// Weights that add up to more than 100.
    TotalWeight,
    /// A pair of subjects that is no transform.
    Transform(TransformError),
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(subject) => write!(f, "duplicate entry for {subject:?}"),
            Self::Weight => f.write_str("individual weights need to be <= 100"),
            Self::TotalWeight => f.write_str("total weight needs to be <= 100"),
            Self::Transform(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MappingError {}

impl Mapping {
    /// A mapping of `source` to destinations with weights of 100 in all. What is missing to 100 stays with the source,
    /// unless the source is a destination itself: then it is lost, which is how a test of loss is configured.
    ///
    /// # Errors
    /// Destinations given twice, weights above 100, subjects that are no transform.
    pub fn new(source: &str, destinations: &[(String, u8)]) -> Result<Self, MappingError> {
        let mut weighted: Vec<Destination> = Vec::new();
        let mut bound = 0;
        for (at, (destination, weight)) in destinations.iter().enumerate() {
            if destinations[..at].iter().any(|(earlier, _)| earlier == destination) {
                return Err(MappingError::Duplicate(destination.clone()));
            }
            if *weight > 100 {
                return Err(MappingError::Weight);
            }
            validate_mapping(source, destination).map_err(MappingError::Transform)?;
            let transform = Transform::parse(source, destination).map_err(MappingError::Transform)?;
            bound += u32::from(*weight);
            if bound > 100 {
                return Err(MappingError::TotalWeight);
            }
            weighted.push(Destination { bound, text: destination.clone(), transform });
        }
        if bound != 100 && !destinations.iter().any(|(destination, _)| destination == source) {
            let same = Transform::parse(source, "").map_err(MappingError::Transform)?;
            weighted.push(Destination { bound: 100, text: itself(source), transform: same });
        }
        Ok(Self { source: source.to_owned(), destinations: weighted })
    }

    /// The subjects that are mapped.
    pub fn source(&self) -> &[u8] {
        self.source.as_bytes()
    }

    /// Where it leads, as it was written, each with its bound: messages that draw a number below it, from 0 to 99, and not
    /// below those before, go there.
    pub fn destinations(&self) -> impl Iterator<Item = (&str, u32)> {
        self.destinations.iter().map(|destination| (destination.text.as_str(), destination.bound))
    }

    /// Where every message on `subject` goes, if there is nothing to pick.
    pub fn only(&self, subject: &[u8]) -> Option<Vec<u8>> {
        match &self.destinations[..] {
            [Destination { bound: 100, transform, .. }] if !transform.is_random() => {
                transform.apply(subject, 0)
            }
            _ => None,
        }
    }

    /// Where one message on `subject` goes; `None`: nowhere. `random` is any number.
    pub fn pick(&self, subject: &[u8], random: u32) -> Option<Vec<u8>> {
        let percent = random % 100;
        let picked = self.destinations.iter().find(|destination| percent < destination.bound)?;
        picked.transform.apply(subject, random / 100)
    }
}

/// A source as the destination that changes nothing.
fn itself(source: &str) -> String {
    let mut wildcards = 0;
    let tokens = source.split('.').map(|token| match token {
        "*" => {
            wildcards += 1;
            format!("${wildcards}")
        }
        other => other.to_owned(),
    });
    tokens.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(source: &str, destinations: &[(&str, u8)]) -> Result<Mapping, MappingError> {
        let destinations: Vec<_> =
            destinations.iter().map(|(subject, weight)| ((*subject).to_owned(), *weight)).collect();
        Mapping::new(source, &destinations)
    }

    /// How many of a hundred numbers lead where.
    fn shares(mapping: &Mapping, subject: &str) -> Vec<(Option<String>, usize)> {
        let mut shares: Vec<(Option<String>, usize)> = Vec::new();
        for number in 0..100 {
            let picked = mapping.pick(subject.as_bytes(), number);
            let picked = picked.map(|subject| String::from_utf8_lossy(&subject).into_owned());
            match shares.iter_mut().find(|(known, _)| *known == picked) {
                Some((_, count)) => *count += 1,
                None => shares.push((picked, 1)),
            }
        }
        shares
    }

    #[test]
    fn destinations_are_shown_as_written_and_what_is_missing_stays() {
        let split = mapping("a.*.>", &[("b.$1.>", 30), ("c.>", 20)]).unwrap();
        let shown: Vec<_> = split.destinations().collect();
        assert_eq!(shown, [("b.$1.>", 30), ("c.>", 50), ("a.$1.>", 100)]);
    }

    #[test]
    fn weights_are_shares_and_the_rest_stays_or_is_lost() {
        let to = |subject: &str, share| (Some(subject.to_owned()), share);
        let split = mapping("a.*", &[("b.$1", 30), ("c.$1", 20)]).unwrap();
        assert_eq!(shares(&split, "a.x"), [to("b.x", 30), to("c.x", 20), to("a.x", 50)]);
        assert_eq!(split.only(b"a.x"), None);
        let lossy = mapping("a", &[("a", 60)]).unwrap();
        assert_eq!(shares(&lossy, "a"), [to("a", 60), (None, 40)]);
        let whole = mapping("a.*", &[("b.{{partition(10,1)}}", 100)]).unwrap();
        assert_eq!(whole.only(b"a.x"), whole.pick(b"a.x", 7));
        assert_eq!(shares(&mapping("a", &[]).unwrap(), "a"), [to("a", 100)]);
    }

    #[test]
    fn destinations_that_make_no_mapping() {
        for (destinations, expected) in [
            (&[("b", 50), ("b", 50)][..], "duplicate entry for \"b\""),
            (&[("b", 101)], "individual weights need to be <= 100"),
            (&[("b", 51), ("c", 50)], "total weight needs to be <= 100"),
            (&[("b.$2", 100)], "invalid mapping destination: wildcard index out of range in $2: [2]"),
        ] {
            assert_eq!(mapping("a.*", destinations).unwrap_err().to_string(), expected);
        }
    }
}
