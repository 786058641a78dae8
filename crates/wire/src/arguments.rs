//! The command line.

use std::path::PathBuf;

use crate::error::WireError;

/// What `sonata-wire` prints for `help`.
pub const HELP: &str = "\
sonata-wire plays wire scripts against a NATS server.

  sonata-wire check  --server <program> [--reference] [--only <glob>] [--jobs <n>]
      compares the answers with the recorded ones; exit code 1 when one differs
  sonata-wire record --server <program> [--diverging] [--only <glob>] [--jobs <n>]
      writes the answers into the scripts

  --server     the program to play against
  --reference  ignore the list of divergences: the recorded truth itself must come back
  --diverging  record the listed divergences, as <name>.sonata.txt, instead of the truth
  --only       scripts whose area/name matches, * stands for anything
  --jobs       scripts played at the same time (4)
  --scripts    the folder of the crate that holds scripts/ and divergences.txt
";

/// Scripts played at the same time unless said otherwise: most of them wait, few of them work.
const JOBS: usize = 4;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Play the scripts.
    Play(Options),
}

/// How to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is done with the answers.
    pub purpose: Purpose,
    /// The program to play against.
    pub server: PathBuf,
    /// Which scripts, as a glob over `area/name`.
    pub only: String,
    /// Scripts played at the same time, at least one.
    pub jobs: usize,
    /// The folder that holds `scripts/` and `divergences.txt`.
    pub folder: PathBuf,
}

/// What is done with the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Compare with the truth, or with the other text of a listed divergence.
    Check,
    /// Compare with the truth only.
    CheckReference,
    /// Write the truth.
    Record,
    /// Write the other texts of listed divergences.
    RecordDivergences,
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// [`WireError::Usage`] for what is not in [`HELP`].
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, WireError> {
    let usage = |reason: String| WireError::Usage(format!("{reason}; see `sonata-wire help`"));
    let mut args = args.into_iter();
    let mut purpose = match args.next().as_deref() {
        Some("check") => Purpose::Check,
        Some("record") => Purpose::Record,
        None | Some("help" | "-h" | "--help") => return Ok(Command::Help),
        Some(other) => return Err(usage(format!("unknown command `{other}`"))),
    };
    let mut server = None;
    let mut only = "*".to_owned();
    let mut jobs = JOBS;
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| usage(format!("{flag} needs a value")));
        match (flag.as_str(), purpose) {
            ("--server", _) => server = Some(PathBuf::from(value()?)),
            ("--only", _) => only = value()?,
            ("--scripts", _) => folder = PathBuf::from(value()?),
            ("--jobs", _) => {
                jobs = value()?
                    .parse()
                    .ok()
                    .filter(|&jobs| jobs > 0)
                    .ok_or_else(|| usage("--jobs needs a number above 0".to_owned()))?;
            }
            ("--reference", Purpose::Check) => purpose = Purpose::CheckReference,
            ("--diverging", Purpose::Record) => purpose = Purpose::RecordDivergences,
            _ => return Err(usage(format!("unknown flag `{flag}`"))),
        }
    }
    let server = server.ok_or_else(|| usage("--server is missing".to_owned()))?;
    Ok(Command::Play(Options { purpose, server, only, jobs, folder }))
}

/// Whether `name` matches `glob`, in which `*` stands for any run of characters.
pub fn matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        for (glob, name, expected) in [
            ("*", "verbs/ping", true),
            ("verbs/*", "verbs/ping", true),
            ("verbs/ping", "verbs/ping", true),
            ("verbs/ping", "verbs/pings", false),
            ("*ping*", "verbs/pings", true),
            ("*/p*g", "verbs/ping", true),
            ("a*ab", "ab", false),
            ("auth/*", "verbs/ping", false),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn flags_belong_to_their_commands() {
        let parse = |line: &str| parse(line.split_whitespace().map(str::to_owned));
        assert_eq!(parse("help").unwrap(), Command::Help);
        let Command::Play(options) = parse("check --reference --server x --only a/* --jobs 2").unwrap()
        else {
            panic!("not a run");
        };
        assert_eq!(
            (options.purpose, options.only.as_str(), options.jobs),
            (Purpose::CheckReference, "a/*", 2)
        );
        for wrong in
            ["check", "dance", "record --reference --server x", "check --server", "check --server x --jobs 0"]
        {
            assert!(matches!(parse(wrong), Err(WireError::Usage(_))), "{wrong}");
        }
    }
}
